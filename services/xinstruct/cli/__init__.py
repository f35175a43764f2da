"""The `xinstruct` command: everything a person does, over gRPC."""
