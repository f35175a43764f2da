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

for page in config command; do
    text=$(.venv/bin/python "tools/${page}_docs.py")  # whole, or not at all
    printf '%s\n' "$text" >"$out/docs/${page/command/commands}.md"
done

.venv/bin/python tools/chart_files.py "$out"
.venv/bin/python tools/kafka_resources.py "$out"
