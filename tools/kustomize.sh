#!/usr/bin/env bash
# Runs real kustomize with the given arguments ("build FOLDER"): that of .cache, or of the system's kustomize or kubectl.
# Where there is none, it is built once out of its Go module by name and pinned version (100 s of one core).
set -euo pipefail
cd "$(dirname "$0")/.."

VERSION=v5.8.1
OWN=$PWD/.cache/kustomize/$VERSION/kustomize

main() {
    if [ -x "$OWN" ]; then exec "$OWN" "$@"; fi
    if command -v kustomize >/dev/null; then exec kustomize "$@"; fi
    if [ "$1" = build ] && command -v kubectl >/dev/null; then shift; exec kubectl kustomize "$@"; fi
    build
    exec "$OWN" "$@"
}

build() {
    command -v go >/dev/null || { echo "kustomize: needs kustomize, kubectl, or Go to build it with" >&2; exit 1; }
    mkdir -p "$(dirname "$OWN")"
    (
        flock 9  # two at once: the second waits, then finds it
        [ -x "$OWN" ] || GOWORK=off GOBIN=$(dirname "$OWN") CGO_ENABLED=0 go install "sigs.k8s.io/kustomize/kustomize/v5@$VERSION"
    ) 9>"$OWN.lock"
}

main "$@"
