#!/usr/bin/env bash
# Starts a real Kubernetes of one node on this machine, or finds it running. Called by `make cluster-up`.
#
# ADDONS="metrics kserve keda trainer" names what is installed beside DNS (nothing without). What is not built yet is
# built first, once; what an earlier cluster left behind is removed. Root, Debian; listens on addresses of its own only.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tools/cluster/settings.bash
source tools/cluster/settings.bash
source tools/cluster/certificates.bash
source tools/cluster/control_plane.bash
source tools/cluster/node.bash
source tools/cluster/stop.bash

read -r -a WANTED <<<"${ADDONS:-}"
PROCESSES=(etcd kube-apiserver kube-controller-manager kube-scheduler containerd kubelet kube-proxy)

main() {
    mkdir -p "$CACHE"
    exec 9>"$CACHE/up.lock"
    flock 9  # two at once: the second waits, then finds it running
    check_addons
    tools/cluster/able.sh >&2 || exit 1
    install_packages
    tools/cluster/build.sh "${WANTED[@]}" 9>&-
    PATH=$BIN:$PATH
    local begin=$SECONDS
    if healthy; then
        say "already up"
    else
        stop_everything
        bring_up
        say "node $NODE is ready after $((SECONDS - begin)) s"
    fi
    local addon
    for addon in "${WANTED[@]}"; do tools/cluster/addons.sh "$addon" 9>&-; done
    say "up after $((SECONDS - begin)) s: export KUBECONFIG=$KUBECONFIG PATH=$BIN:\$PATH"
}

check_addons() {
    local addon
    for addon in "${WANTED[@]}"; do
        [[ " $ALL_ADDONS " = *" $addon "* ]] || fail "no add-on $addon; there are ${ALL_ADDONS// /, }"
    done
}

install_packages() {
    command -v apt-get >/dev/null || return 0
    local package wanted=()
    for package in containerd runc containernetworking-plugins iptables conntrack socat ethtool; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed' || wanted+=("$package")
    done
    [ ${#wanted[@]} -gt 0 ] || return 0
    say "installing: ${wanted[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null
}

healthy() {
    local name
    for name in "${PROCESSES[@]}"; do running "$name" || return 1; done
    kubectl get --raw=/readyz >/dev/null 2>&1 && node_ready 2>/dev/null
}

bring_up() {
    mkdir -p "$RUN/log" "$RUN/pid" "$RUN/volumes"
    # An address of this machine that no other machine knows, and that stays when the outer ones change.
    ip link add "$BRIDGE" type bridge
    ip address add "$NODE_ADDRESS/32" dev "$BRIDGE"
    ip link set "$BRIDGE" up
    make_certificates
    start_control_plane
    start_node
    sed "s/@DNS_ADDRESS@/$DNS_ADDRESS/; s/@VERSION@/$COREDNS_VERSION/" tools/cluster/manifests/coredns.yaml |
        kubectl apply -f - >/dev/null
    kubectl -n kube-system rollout status deployment/coredns --timeout=60s >/dev/null || fail "DNS does not start"
}

main
