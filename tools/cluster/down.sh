#!/usr/bin/env bash
# Stops the cluster and removes what it left on this machine; what was built and the images stay in the cache.
# Called by `make cluster-down`.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tools/cluster/settings.bash
source tools/cluster/settings.bash
source tools/cluster/stop.bash

mkdir -p "$CACHE"
exec 9>"$CACHE/up.lock"
flock 9
if [ ! -d "$RUN" ]; then
    say "not running"
    exit
fi
[ "$(id -u)" = 0 ] || fail "needs root"
stop_everything
say "stopped"
