#!/usr/bin/env bash
# Builds what is missing of the cluster's programs out of their Go modules, into the cache, by version; a second call
# compiles nothing. `build.sh` alone: what every cluster needs; `build.sh kserve keda trainer metrics` adds theirs;
# `build.sh --built` prints the add-ons that need no building, `build.sh --missing` the others.
#
# Cold, on two free cores: 12 CPU-minutes for Kubernetes, 9 for Helm, CoreDNS and metrics-server, 25 for the add-ons.
# The compiler's cache grows to 10 GB and is removed at the end; `build.sh --keep-compiled …` leaves it for the next.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tools/cluster/settings.bash
source tools/cluster/settings.bash

COMPILED=$CACHE/go-build
export GOCACHE=$COMPILED GOWORK=off CGO_ENABLED=0 GOFLAGS=-modcacherw GOTOOLCHAIN=local

main() {
    local keep= part
    case "${1:-}" in --built | --missing)
        for part in $ALL_ADDONS; do
            if built "$part" 2>/dev/null; then echo "$part built"; else echo "$part missing"; fi
        done | sed -n "s/ ${1#--}\$//p"
        return
        ;;
    esac
    if [ "${1:-}" = --keep-compiled ]; then keep=1; shift; fi
    mkdir -p "$BUILT" "$BIN" "$CACHE/empty"
    exec 8>"$CACHE/build.lock"
    kubernetes
    for part in pause helm coredns "$@"; do "build_$part"; done
    [ -z "$keep" ] || return 0
    flock --nonblock 8 || return 0  # another one compiles, and needs it
    rm -rf "$COMPILED"
}

kubernetes() {
    local v=$KUBERNETES_VERSION name stamps="" package
    grep -q "k8s.io/kubernetes v$v\$" tools/cluster/kube/go.mod || fail "kube/go.mod is for another Kubernetes than $v"
    if [ ! -x "$BUILT/kube-$v" ]; then
        # Without these, kubectl, Helm and everything that compares versions see v0.0.0.
        for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
            stamps+=" -X $package.gitVersion=v$v -X $package.gitMajor=1 -X $package.gitMinor=$(cut -d. -f2 <<<"$v")"
            stamps+=" -X $package.gitTreeState=clean -X $package.gitCommit=module"
            stamps+=" -X $package.buildDate=2026-01-01T00:00:00Z"
        done
        compile tools/cluster/kube . "kube-$v" "$stamps"
    fi
    for name in kube etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
        ln -sfn "../built/kube-$v" "$BIN/$name"
    done
}

build_pause() { [ -x "$BUILT/pause-1" ] || compile tools/cluster/pause . pause-1; }

build_helm() {
    local version=helm.sh/helm/v4/internal/version.version=v$HELM_VERSION
    program "helm.sh/helm/v4@v$HELM_VERSION" ./cmd/helm "helm-$HELM_VERSION" "-X $version"
    ln -sfn "../built/helm-$HELM_VERSION" "$BIN/helm"
}

build_coredns() { program "github.com/coredns/coredns@v$COREDNS_VERSION" . "coredns-$COREDNS_VERSION"; }

build_metrics() {
    local module=sigs.k8s.io/metrics-server@v$METRICS_SERVER_VERSION
    program "$module" ./cmd/metrics-server "metrics-server-$METRICS_SERVER_VERSION"
    kustomized "$module" manifests/base "metrics-server-$METRICS_SERVER_VERSION"
}

build_kserve() {
    local v=$KSERVE_VERSION module=github.com/kserve/kserve@v$KSERVE_VERSION
    program "$module" ./cmd/manager "kserve-controller-manager-$v"
    program "$module" ./cmd/agent "kserve-agent-$v"
    [ -e "$BUILT/kserve-$v.yaml" ] || keep "$(folder "$module")/install/v$v/kserve.yaml" "kserve-$v"
}

build_keda() {
    local module=github.com/kedacore/keda/v2@v$KEDA_VERSION
    program "$module" ./cmd/operator "keda-operator-$KEDA_VERSION"
    program "$module" ./cmd/adapter "keda-adapter-$KEDA_VERSION"
    kustomized "$module" config/default "keda-$KEDA_VERSION"
}

build_trainer() {
    local jobset=sigs.k8s.io/jobset@v$JOBSET_VERSION trainer=github.com/kubeflow/trainer/v2@v$TRAINER_VERSION work
    program "$jobset" . "jobset-$JOBSET_VERSION"
    kustomized "$jobset" config/default "jobset-$JOBSET_VERSION"
    program "$trainer" ./cmd/trainer-controller-manager "trainer-$TRAINER_VERSION"
    [ -e "$BUILT/trainer-$TRAINER_VERSION.yaml" ] && return
    # Its overlay brings a JobSet of another version by a URL: ours is installed beside it.
    work=$(mktemp -d)
    cp -r "$(folder "$trainer")/manifests" "$work/"
    chmod -R u+w "$work"
    sed -i '/third-party\/jobset/d' "$work/manifests/overlays/manager/kustomization.yaml"
    "$BIN/kubectl" kustomize "$work/manifests/overlays/manager" >"$work/all.yaml"
    keep "$work/all.yaml" "trainer-$TRAINER_VERSION"
    rm -rf "$work"
}

# Whether all of an add-on is there: whatever would make a part of it says no.
built() (
    compile() { exit 1; }
    keep() { exit 1; }
    folder() { exit 1; }
    "build_$1"
)

# program MODULE@VERSION PACKAGE NAME-VERSION [LDFLAGS]: inside the module's own folder, so that its replace lines hold
# (`go install module@version` refuses those).
program() { [ -x "$BUILT/$3" ] || compile "$(folder "$1")" "$2" "$3" "${4:-}"; }

compile() {
    # One at a time; who needs only what is built waits for nobody.
    flock 8
    [ -x "$BUILT/$3" ] || compile_alone "$@"
    flock -u 8
}

compile_alone() {
    local begin=$SECONDS
    say "building $3"
    # In a module's own folder: its go.sum may lack what only its makers' workspace needed. Ours stay as they are.
    local mod=mod
    case "$1" in tools/*) mod=readonly ;; esac
    (cd "$1" && nice -n 10 go build -mod="$mod" -trimpath -buildvcs=false -ldflags "-s -w ${4:-}" -o "$BUILT/.$3" "$2")
    mv "$BUILT/.$3" "$BUILT/$3"  # whole or not there
    say "built $3 in $((SECONDS - begin)) s"
}

# kustomized MODULE@VERSION FOLDER NAME-VERSION: the manifest that the makers' kustomization gives.
kustomized() {
    [ ! -e "$BUILT/$3.yaml" ] || return 0
    "$BIN/kubectl" kustomize "$(folder "$1")/$2" >"$CACHE/empty/$3.yaml"
    keep "$CACHE/empty/$3.yaml" "$3"
}

keep() {
    cp "$1" "$BUILT/.$2.yaml"
    mv "$BUILT/.$2.yaml" "$BUILT/$2.yaml"
}

folder() { (cd "$CACHE/empty" && go mod download -json "$1") | sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p'; }

main "$@"
