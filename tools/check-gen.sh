#!/usr/bin/env bash
# Generates everything into a temporary folder and compares it with the tree, byte for byte.
set -euo pipefail
cd "$(dirname "$0")/.."

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
tools/gen.sh "$fresh"
status=0
while IFS= read -r file; do
    cmp -s "$fresh/$file" "$file" || { echo "check-gen: $file is not what its source gives; run make gen" >&2; status=1; }
done < <(cd "$fresh" && find . -type f | sed 's|^\./||')
while IFS= read -r file; do
    [ -e "$fresh/$file" ] || { echo "check-gen: $file has no source any more; delete it" >&2; status=1; }
done < <(find protos -name '*_pb2*.py*' -not -path '*/__pycache__/*')
exit $status
