# shellcheck shell=bash disable=SC2034
# Where the machine-local cluster keeps what, and the few words that its scripts share. Sourced from the project's root.
#
# XINSTRUCT_CLUSTER_CACHE (xinstruct-cluster in the user's cache folder) names another place: programs by version, layers
# of images, containerd's images. $RUN is one cluster's life: make cluster-down removes it.
# shellcheck source=tools/cluster/versions.bash
source tools/cluster/versions.bash

CACHE=${XINSTRUCT_CLUSTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/xinstruct-cluster}
BUILT=$CACHE/built        # <name>-<version>, and <name>-<version>.yaml as its makers wrote it
BIN=$CACHE/bin            # the same under plain names, for PATH
RUN=$CACHE/run
PKI=$RUN/pki
SOCKETS=/run/xinstruct-cluster  # a socket's path has 108 characters at most, which a cache folder may exceed
CONTAINERD=$SOCKETS/containerd.sock
export KUBECONFIG=$RUN/admin.conf

# Addresses that nobody outside this machine can reach: the cluster's own bridge, and networks behind it.
BRIDGE=xinstruct0
NODE_ADDRESS=10.97.0.1
API_PORT=6443
ETCD_PORT=22379
SERVICES_NET=10.96.0.0/16
KUBERNETES_ADDRESS=10.96.0.1
DNS_ADDRESS=10.96.0.10
PODS_NET=10.244.0.0/16
PODS_BRIDGE=xinstruct1
NODE=node1
ALL_ADDONS="metrics kserve keda trainer"

say() { echo "cluster: $*"; }

fail() {
    echo "cluster: $*" >&2
    exit 1
}

# within SECONDS COMMAND…: until it succeeds, five times a second.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.2
    done
}

# A pid is given again by the system: only a process whose command line names our folder is ours.
ours() { tr '\0' '\n' 2>/dev/null <"/proc/$1/cmdline" | grep -qF -e "$CACHE" -e "$SOCKETS"; }

running() {
    local pid
    pid=$(cat "$RUN/pid/$1" 2>/dev/null) && ours "$pid"
}

node_containers() { ctr -a "$CONTAINERD" -n k8s.io "$@"; }
