#!/usr/bin/env bash
# Stops the PostgreSQL that up.sh started with the same POSTGRES_PORT and POSTGRES_DATA; its data stays.
set -euo pipefail
cd "$(dirname "$0")/../.."

PORT=${POSTGRES_PORT:-15432}

main() {
    local default=.cache/postgres/data pid
    [ "$(id -u)" -ne 0 ] || default=/var/tmp/xinstruct-postgres-$PORT
    local data
    data=$(realpath -m "${POSTGRES_DATA:-$default}")
    pid=$(head -1 "$data/postmaster.pid" 2>/dev/null || true)
    # A pid is given again by the system: only a process that runs on this data is ours.
    if [ -z "$pid" ] || ! tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qxF "$data"; then
        echo "postgres: not running"
        return
    fi
    kill -INT "$pid"
    while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
    echo "postgres: stopped"
}

main
