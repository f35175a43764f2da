# shellcheck shell=bash
# etcd, API server, controller manager and scheduler, as processes of this machine. Sourced by up.sh.

# start NAME COMMAND…: in the background, in a session of its own, its output and pid under $RUN.
start() {
    local name=$1
    shift
    setsid "$@" >"$RUN/log/$name.log" 2>&1 </dev/null 9>&- &
    echo $! >"$RUN/pid/$name"
}

start_control_plane() {
    local etcd=http://127.0.0.1:$ETCD_PORT peer=http://127.0.0.1:$((ETCD_PORT + 1))
    # Without fsync: the cluster's whole state goes with it.
    start etcd "$BIN/etcd" --unsafe-no-fsync --data-dir "$RUN/etcd" --listen-client-urls "$etcd" \
        --advertise-client-urls "$etcd" --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" \
        --initial-cluster "default=$peer"
    start_api_server "$etcd"
    within 60 kubectl get --raw=/readyz || fail "no API server after 60 s: see $RUN/log/kube-apiserver.log"
    start_controllers
    within 30 kubectl get serviceaccount default || fail "no service accounts: see $RUN/log/kube-controller-manager.log"
}

start_api_server() {
    start kube-apiserver "$BIN/kube-apiserver" --etcd-servers="$1" \
        --bind-address="$NODE_ADDRESS" --advertise-address="$NODE_ADDRESS" --secure-port="$API_PORT" \
        --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" \
        --client-ca-file="$PKI/ca.crt" \
        --service-cluster-ip-range="$SERVICES_NET" --authorization-mode=Node,RBAC --allow-privileged=true \
        --enable-admission-plugins=NodeRestriction --anonymous-auth=false \
        --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$PKI/accounts.key" \
        --service-account-signing-key-file="$PKI/accounts.key" --kubelet-certificate-authority="$PKI/ca.crt" \
        --kubelet-client-certificate="$PKI/apiserver-kubelet-client.crt" \
        --kubelet-client-key="$PKI/apiserver-kubelet-client.key" --kubelet-preferred-address-types=InternalIP \
        --requestheader-client-ca-file="$PKI/ca.crt" --requestheader-allowed-names=front-proxy-client \
        --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
        --requestheader-extra-headers-prefix=X-Remote-Extra- \
        --proxy-client-cert-file="$PKI/front-proxy.crt" --proxy-client-key-file="$PKI/front-proxy.key"
}

start_controllers() {
    local conf=$PKI/controller-manager.conf
    # Autoscalers look every 5 s instead of 15: tests wait for them.
    start kube-controller-manager "$BIN/kube-controller-manager" --kubeconfig="$conf" \
        --authentication-kubeconfig="$conf" --authorization-kubeconfig="$conf" --bind-address=127.0.0.1 \
        --leader-elect=false --use-service-account-credentials=true --root-ca-file="$PKI/ca.crt" \
        --service-account-private-key-file="$PKI/accounts.key" --cluster-signing-cert-file="$PKI/ca.crt" \
        --cluster-signing-key-file="$PKI/ca.key" --allocate-node-cidrs=true --cluster-cidr="$PODS_NET" \
        --node-cidr-mask-size=24 --horizontal-pod-autoscaler-sync-period=5s --cluster-name=xinstruct
    conf=$PKI/scheduler.conf
    start kube-scheduler "$BIN/kube-scheduler" --kubeconfig="$conf" --authentication-kubeconfig="$conf" \
        --authorization-kubeconfig="$conf" --bind-address=127.0.0.1 --leader-elect=false
}
