#!/usr/bin/env bash
# Makes .venv what requirements.lock says; does nothing when it is that already. Called by `make setup`.
#
# Every file that is installed is checked against a hash in the lock, the installer and the build backend included.
# PYTHON names the interpreter; without it the first of python3.11, 3.12, 3.13 and python3 that fits is taken.
set -euo pipefail
cd "$(dirname "$0")/.."

# Measured on x86-64 Linux with an empty cache; measure again when the lock changes much.
DOWNLOAD="about 3.2 GB"
ON_DISK="about 6.5 GB"

main() {
    mkdir -p .cache
    exec 9>.cache/setup.lock
    flock 9  # two makes at once: the second waits, then finds nothing to do
    local wanted
    wanted=$({ pwd; cat requirements.lock pyproject.toml; } | sha256sum | cut -c1-64)
    [ "$(cat .venv/.setup-done 2>/dev/null || true)" != "$wanted" ] || return 0
    make_venv
    announce
    install_uv
    export UV_PYTHON_DOWNLOADS=never
    local uv=(.venv/bin/uv pip install --python .venv/bin/python)
    # Compiled now: the first training job would otherwise spend twelve seconds on it.
    "${uv[@]}" --require-hashes --compile-bytecode -r requirements.lock
    "${uv[@]}" --no-deps --no-build-isolation --quiet -e .
    echo "$wanted" >.venv/.setup-done
    echo "setup: done; .venv/bin/xinstruct is the command"
}

announce() {
    local packages
    packages=$(grep -cE '^[a-zA-Z0-9_.-]+(\[[a-z,]+\])?==' requirements.lock)
    echo "setup: $packages packages into .venv with $(.venv/bin/python -V)."
    echo "setup: $DOWNLOAD to download where no cache holds it, $ON_DISK on disk; PyTorch with its CUDA libraries is most of it."
}

make_venv() {
    if .venv/bin/python -c '' 2>/dev/null; then return; fi
    local python
    python=$(find_python)
    rm -rf .venv
    "$python" -m venv .venv
}

find_python() {
    local name
    for name in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
        # It is run, not only looked up: a version manager's shim may exist and refuse.
        if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            "$name" -c 'import ensurepip, venv' 2>/dev/null || fail "$name cannot make virtual environments: on Debian or Ubuntu, apt-get install python3-venv"
            echo "$name"
            return
        fi
    done
    fail "no Python 3.11, 3.12 or 3.13 found (${PYTHON:-looked for python3.11, python3.12, python3.13, python3}); install one, or name it: make setup PYTHON=/path/to/python3"
}

install_uv() {
    # The lock's own lines for uv, so that its version and hashes stand in one place.
    awk '/^[a-zA-Z0-9]/ {on = /^uv==/} on' requirements.lock >.cache/uv.lock
    .venv/bin/python -m pip install --quiet --require-hashes --no-deps -r .cache/uv.lock
}

fail() {
    echo "setup: $1" >&2
    exit 1
}

main
