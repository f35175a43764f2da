#!/usr/bin/env bash
# Starts a PostgreSQL of its own on loopback, or finds it running. Called by `make postgres-up` and by the tests.
#
# POSTGRES_PORT (15432) and POSTGRES_DATA choose another one beside it. It refuses to run as root: there it runs as the
# user postgres (or nobody), with its data in /var/tmp, because that user may not see into the checkout's folders.
# fsync is off: tests kill processes, not the machine. Not for real data.
set -euo pipefail
cd "$(dirname "$0")/../.."

PORT=${POSTGRES_PORT:-15432}
START_S_MAX=30

main() {
    if [ "$(id -u)" -eq 0 ]; then
        RUNNER=$(id -u postgres >/dev/null 2>&1 && echo postgres || echo nobody)
        DATA=$(realpath -m "${POSTGRES_DATA:-/var/tmp/xinstruct-postgres-$PORT}")
    else
        RUNNER=""
        DATA=$(realpath -m "${POSTGRES_DATA:-.cache/postgres/data}")
    fi
    BIN=$(binaries)
    mkdir -p "$DATA"
    exec 9>"$DATA.lock"
    flock 9  # two at once: the second waits, then finds it running
    if running; then echo "postgres: already on 127.0.0.1:$PORT"; return; fi
    [ -z "$RUNNER" ] || chown "$RUNNER" "$DATA"
    [ -e "$DATA/PG_VERSION" ] || as "$BIN/initdb" -D "$DATA" -U xinstruct -A trust -E UTF8 --locale=C.UTF-8 >/dev/null
    start
    echo "postgres: 127.0.0.1:$PORT, user xinstruct, data in $DATA"
}

binaries() {
    local found
    found=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
    if [ -n "$found" ]; then echo "$found"; return; fi
    command -v initdb >/dev/null || fail "needs PostgreSQL: on Debian or Ubuntu, apt-get install postgresql"
    dirname "$(readlink -f "$(command -v initdb)")"
}

running() { "$BIN/pg_isready" -q -h 127.0.0.1 -p "$PORT"; }

start() {
    local options="-c listen_addresses=127.0.0.1 -c port=$PORT -c unix_socket_directories= -c fsync=off -c max_connections=200"
    if ! as "$BIN/pg_ctl" -D "$DATA" -s -w -t "$START_S_MAX" -l "$DATA/server.log" -o "$options" start 9>&-; then
        tail -20 "$DATA/server.log" >&2
        fail "it did not start"
    fi
}

# Another user may not be allowed to see the present folder; PostgreSQL's tools want to.
as() {
    if [ -n "$RUNNER" ]; then (cd / && runuser -u "$RUNNER" -- "$@"); else "$@"; fi
}

fail() {
    echo "postgres: $*" >&2
    exit 1
}

main
