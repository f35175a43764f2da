#!/usr/bin/env bash
# Resolves pyproject.toml (every extra, every platform and Python) into requirements.lock: exact versions, hashes, no
# host. `--check` changes nothing and fails when the result would differ; offline it says that it could not look
# (tests/architecture/test_lock.py reads the lock itself, always).
set -euo pipefail
cd "$(dirname "$0")/.."

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
cp requirements.lock "$fresh/requirements.lock"  # versions that still fit are kept
if ! .venv/bin/uv pip compile --quiet pyproject.toml --all-extras --universal --generate-hashes --no-emit-index-url \
    --no-header -o "$fresh/requirements.lock" 2>"$fresh/errors"; then
    cat "$fresh/errors" >&2
    if [ "${1:-}" = --check ] && grep -qiE 'error sending request|failed to fetch|connect|dns|offline' "$fresh/errors"; then
        echo "check-lock: NOT CHECKED: no package index can be reached" >&2
        exit 0
    fi
    exit 1
fi
if [ "${1:-}" = --check ]; then
    cmp -s "$fresh/requirements.lock" requirements.lock || { echo "check-lock: requirements.lock is not what pyproject.toml gives; run make lock" >&2; exit 1; }
else
    cp "$fresh/requirements.lock" requirements.lock
fi
