# shellcheck shell=bash
# An authority, and certificates and kubeconfigs of everything in the cluster. Sourced by up.sh.

make_certificates() {
    mkdir -p "$PKI"
    chmod 700 "$PKI"
    (
        cd "$PKI"
        # shellcheck disable=SC2046
        openssl req -x509 $(new_key) -nodes -days 3650 -subj /CN=xinstruct-cluster -keyout ca.key -out ca.crt \
            -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
        openssl genrsa -out accounts.key 2048 2>/dev/null
        local host=kubernetes.default.svc
        local names=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:$host,DNS:$host.cluster.local
        certificate apiserver /CN=kube-apiserver "IP:$NODE_ADDRESS,IP:127.0.0.1,IP:$KUBERNETES_ADDRESS,$names"
        certificate admin /O=system:masters/CN=admin
        certificate apiserver-kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client
        certificate front-proxy /CN=front-proxy-client
        certificate controller-manager /CN=system:kube-controller-manager
        certificate scheduler /CN=system:kube-scheduler
        certificate kubelet "/O=system:nodes/CN=system:node:$NODE" "IP:$NODE_ADDRESS,IP:127.0.0.1,DNS:$NODE"
        certificate proxy /CN=system:kube-proxy
        local who
        for who in controller-manager scheduler kubelet proxy; do kubeconfig "$who" >"$who.conf"; done
        kubeconfig admin >"$KUBECONFIG"
        chmod 600 "$KUBECONFIG"
    )
}

# certificate NAME SUBJECT [ALTERNATIVE_NAMES]: signed by the authority, for servers and clients; where it is called.
certificate() {
    # shellcheck disable=SC2046
    openssl req $(new_key) -nodes -subj "$2" -keyout "$1.key" -out "$1.csr" 2>/dev/null
    { echo "extendedKeyUsage=serverAuth,clientAuth"; [ -z "${3:-}" ] || echo "subjectAltName=$3"; } >"$1.ext"
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -extfile "$1.ext" \
        -out "$1.crt" 2>/dev/null
    rm "$1.csr" "$1.ext"
}

# Elliptic curves: eleven keys in a tenth of a second, where RSA takes three.
new_key() { echo -newkey ec -pkeyopt ec_paramgen_curve:prime256v1; }

kubeconfig() {
    cat <<YAML
apiVersion: v1
kind: Config
clusters:
  - name: xinstruct
    cluster:
      server: https://$NODE_ADDRESS:$API_PORT
      certificate-authority-data: $(base64 -w0 ca.crt)
users:
  - name: $1
    user:
      client-certificate-data: $(base64 -w0 "$1.crt")
      client-key-data: $(base64 -w0 "$1.key")
contexts:
  - name: $1
    context: {cluster: xinstruct, user: $1}
current-context: $1
YAML
}
