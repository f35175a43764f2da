# shellcheck shell=bash
# This machine as the cluster's node: containerd, kubelet, kube-proxy. Sourced by up.sh.

start_node() {
    write_node_files
    cat /proc/sys/net/ipv4/ip_forward >"$RUN/ip_forward"
    sysctl -qw net.ipv4.ip_forward=1
    sysctl -qw net.bridge.bridge-nf-call-iptables=1 2>/dev/null || true  # where the kernel has it
    start_containerd
    load_images
    start kubelet "$BIN/kubelet" --config "$RUN/kubelet.yaml" --kubeconfig "$PKI/kubelet.conf" \
        --hostname-override "$NODE" --node-ip "$NODE_ADDRESS" --root-dir "$RUN/kubelet"
    kubectl create clusterrolebinding xinstruct-kube-proxy --clusterrole system:node-proxier \
        --user system:kube-proxy >/dev/null
    start kube-proxy "$BIN/kube-proxy" --kubeconfig "$PKI/proxy.conf" --hostname-override "$NODE" \
        --cluster-cidr "$PODS_NET" --proxy-mode iptables --conntrack-max-per-core 0 \
        --conntrack-tcp-timeout-established 0s --conntrack-tcp-timeout-close-wait 0s \
        --metrics-bind-address 127.0.0.1:10249 --healthz-bind-address 127.0.0.1:10256
    within 60 node_ready || fail "the node is not ready after 60 s: see $RUN/log/kubelet.log"
}

node_ready() {
    kubectl get node "$NODE" -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}' | grep -q True
}

start_containerd() {
    start containerd containerd --config "$RUN/containerd.toml"
    within 30 node_containers version || fail "containerd does not answer after 30 s: see $RUN/log/containerd.log"
    local left
    left=$(node_containers containers ls -q)
    [ -n "$left" ] || return 0
    # Of a node that was killed: forgotten here, and then by the kubelet's half, which reads its list at the start only.
    # shellcheck disable=SC2086
    node_containers containers rm $left >/dev/null 2>&1 || true
    stop containerd
    rm -rf "$CACHE/containerd/io.containerd.grpc.v1.cri"
    start containerd containerd --config "$RUN/containerd.toml"
    within 30 node_containers version || fail "containerd does not answer after 30 s: see $RUN/log/containerd.log"
}

# Images of the node itself. The project's own come by `make cluster-images`.
load_images() {
    image pause:1 "$BUILT/pause-1" /pause
    image "coredns:$COREDNS_VERSION" "$BUILT/coredns-$COREDNS_VERSION" /coredns
    tools/cluster/images.py load "$CONTAINERD" localhost/pause:1 "localhost/coredns:$COREDNS_VERSION"
}

# image NAME:TAG PROGRAM PATH_IN_IMAGE [USER]: of one static program.
image() { tools/cluster/images.py program "localhost/$1" "$2" "$3" ${4:+--user "$4"} >/dev/null; }

write_node_files() {
    mkdir -p "$RUN/cni" "$RUN/kubelet" "$RUN/podlogs" "$CACHE/containerd" "$SOCKETS"
    # No server of the outside: names of the cluster are all that pods can ask for.
    echo "nameserver 127.0.0.1" >"$RUN/resolv.conf"
    cat >"$RUN/cni/10-bridge.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "xinstruct", "plugins": [
  {"type": "bridge", "bridge": "$PODS_BRIDGE", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$RUN/cni-addresses",
            "ranges": [[{"subnet": "${PODS_NET%.*.*}.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}
]}
JSON
    cat >"$RUN/containerd.toml" <<TOML
version = 2
root = "$CACHE/containerd"
state = "$SOCKETS/state"
[grpc]
  address = "$CONTAINERD"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$RUN/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
TOML
    cat >"$RUN/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $NODE_ADDRESS
# Hybrid hierarchies are still what some machines have.
failCgroupV1: false
cgroupDriver: cgroupfs
failSwapOn: false
containerRuntimeEndpoint: unix://$CONTAINERD
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: "$PKI/ca.crt"}
authorization: {mode: Webhook}
tlsCertFile: "$PKI/kubelet.crt"
tlsPrivateKeyFile: "$PKI/kubelet.key"
clusterDNS: [$DNS_ADDRESS]
clusterDomain: cluster.local
resolvConf: $RUN/resolv.conf
podLogsDir: "$RUN/podlogs"
nodeStatusUpdateFrequency: 5s
# The disk is the machine's, and images are ours to delete.
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
imageGCHighThresholdPercent: 100
YAML
}
