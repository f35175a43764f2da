#!/usr/bin/env bash
# Stops the broker that up.sh started with the same KAFKA_DATA; its data stays. Called by `make kafka-down`.
set -euo pipefail
cd "$(dirname "$0")/../.."

DATA=$(realpath -m "${KAFKA_DATA:-.cache/kafka/data}")
STOP_S_MAX=20

main() {
    local pid
    pid=$(cat "$DATA/broker.pid" 2>/dev/null || true)
    if [ -z "$pid" ] || ! ours "$pid"; then echo "kafka: not running"; return; fi
    kill "$pid"
    local tries=0
    while kill -0 "$pid" 2>/dev/null; do
        if [ $((tries += 1)) -gt $((STOP_S_MAX * 5)) ]; then kill -9 "$pid"; fi
        sleep 0.2
    done
    rm -f "$DATA/broker.pid"
    echo "kafka: stopped"
}

# A pid is given again by the system: only a process that runs on this data is ours.
ours() { tr '\0' '\n' <"/proc/$1/cmdline" 2>/dev/null | grep -qxF "$DATA/server.properties"; }

main
