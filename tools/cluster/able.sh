#!/usr/bin/env bash
# Says whether this machine can run the cluster: a line for everything that is missing, and then exit code 1.
# With XINSTRUCT_CLUSTER_DISK_GB (12 when nothing is built yet) the free space that is asked for.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tools/cluster/settings.bash
source tools/cluster/settings.bash

MEMORY_MB_MIN=4000
GO_VERSION_MIN=1.26  # tools/cluster/kube/go.mod asks for it, and no other is downloaded

main() {
    local missing=0
    while read -r line; do
        echo "cluster: cannot run here: $line"
        missing=1
    done < <(faults)
    return "$missing"
}

faults() {
    [ "$(id -u)" = 0 ] || echo "needs root: it makes network bridges, mounts and containers"
    [ "$(uname -sm)" = "Linux x86_64" ] || echo "is built for Linux on x86-64, not $(uname -sm)"
    go_builds || [ -x "$BIN/kubectl" ] || echo "needs Go $GO_VERSION_MIN or later once, to build Kubernetes"
    command -v openssl >/dev/null || echo "needs openssl"
    command -v ip >/dev/null || echo "needs ip (iproute2)"
    [ -d /sys/fs/cgroup/memory ] || grep -qs memory /sys/fs/cgroup/cgroup.controllers || echo "needs the memory cgroup"
    grep -q overlay /proc/filesystems || modprobe -q overlay || echo "needs the overlay file system"
    foreign_kubelet
    command -v apt-get >/dev/null || local_programs
    local free_gb memory_mb
    mkdir -p "$CACHE"
    free_gb=$(df -BG --output=avail "$CACHE" | tail -1 | tr -dc 0-9)
    [ "$free_gb" -ge "$(disk_gb_min)" ] || echo "needs $(disk_gb_min) GB of disk at $CACHE, there are $free_gb"
    memory_mb=$(awk '/^MemAvailable/ {print int($2 / 1000)}' /proc/meminfo)
    [ "$memory_mb" -ge "$MEMORY_MB_MIN" ] || echo "needs $MEMORY_MB_MIN MB of free memory, there are $memory_mb"
}

go_builds() {
    local version
    version=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) || return 1
    [ "$(printf '%s\n' "$GO_VERSION_MIN" "${version#go}" | sort -V | head -1)" = "$GO_VERSION_MIN" ]
}

disk_gb_min() {
    if [ -n "${XINSTRUCT_CLUSTER_DISK_GB:-}" ]; then echo "$XINSTRUCT_CLUSTER_DISK_GB"
    elif [ -x "$BIN/kubectl" ]; then echo 2
    else echo 12  # the compiler's cache is most of it, and is removed again
    fi
}

# Two kubelets on one machine take each other's containers, rules and ports away.
foreign_kubelet() {
    local folder pid
    for folder in /proc/[0-9]*; do
        pid=${folder#/proc/}
        [ "$(cat "$folder/comm" 2>/dev/null)" = kubelet ] || continue
        ours "$pid" || echo "another kubelet runs here (process $pid)"
    done
}

# Where there is no apt, nobody installs them.
local_programs() {
    local program
    for program in containerd runc iptables conntrack socat; do
        command -v "$program" >/dev/null || echo "needs $program, and there is no apt-get to install it"
    done
    [ -x /usr/lib/cni/bridge ] || echo "needs the container network plugins in /usr/lib/cni"
}

main
