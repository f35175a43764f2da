"""The one shared library: it knows the shape of messages, never what to do with them."""
