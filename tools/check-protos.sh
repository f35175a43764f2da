#!/usr/bin/env bash
# buf's lint, and its search for breaking changes against the last commit on main: the tip when there is work on top of
# it, else the commit before.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/buf.sh lint
tip=$(git rev-parse --verify --quiet main || git rev-parse --verify --quiet origin/main || true)
if [ -n "$tip" ] && [ "$tip" = "$(git rev-parse HEAD)" ] && git diff --quiet HEAD -- protos; then
    tip=$(git rev-parse --verify --quiet "$tip^" || true)
fi
if [ -z "$tip" ] || ! git cat-file -e "$tip:buf.yaml" 2>/dev/null; then
    echo "buf breaking: no commit on main to compare with"
    exit 0
fi
before=$(mktemp -d)
trap 'rm -rf "$before"' EXIT
git archive "$tip" protos buf.yaml | tar -x -C "$before"
tools/buf.sh breaking --against "$before"
