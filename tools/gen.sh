#!/usr/bin/env bash
# Writes every generated file of the tree under a folder: `tools/gen.sh .` renews them in place (make gen), another
# folder is what `make check-gen` compares with.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$1

mkdir -p "$out/protos" "$out/docs"
PATH="$PWD/.venv/bin:$PATH" .venv/bin/python -m grpc_tools.protoc -I protos \
    --python_out="$out/protos" --grpc_python_out="$out/protos" \
    --mypy_out=quiet:"$out/protos" --mypy_grpc_out=quiet:"$out/protos" \
    protos/xinstruct/v1/*.proto
# A file without a service gets an empty gRPC module: nobody may import it, so it is not kept.
for proto in protos/xinstruct/v1/*.proto; do
    grep -q '^service ' "$proto" || rm -f "$out/${proto%.proto}_pb2_grpc.py" "$out/${proto%.proto}_pb2_grpc.pyi"
done

.venv/bin/python tools/config_docs.py >"$out/docs/config.md.new"
.venv/bin/python tools/command_docs.py >"$out/docs/commands.md.new"
for page in config commands; do mv "$out/docs/$page.md.new" "$out/docs/$page.md"; done
