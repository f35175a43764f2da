#!/usr/bin/env bash
# Builds the images that the chart names (again only what changed) and, where the machine's cluster is up, gives them to
# it. `images.sh TAG` chooses another tag than the chart's appVersion; `images.sh TAG light model kafka postgres` builds
# those that are named alone. Called by `make cluster-images`.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tools/cluster/settings.bash
source tools/cluster/settings.bash

main() {
    local tag=${1:-}
    [ -n "$tag" ] || tag=$(sed -n 's/^appVersion: //p' charts/xinstruct/Chart.yaml)
    local images=("${@:2}")
    [ ${#images[@]} -gt 0 ] || images=(light model kafka postgres)
    [ "$(id -u)" = 0 ] || fail "images need root here (chroot); any OCI builder takes services/Dockerfile"
    install_packages
    mkdir -p "$CACHE"
    exec 7>"$CACHE/images.lock"
    flock 7
    tools/cluster/images.py build --tag "$tag" "${images[@]}"
    if running containerd; then
        local begin=$SECONDS name
        for name in "${images[@]/#/-}"; do
            tools/cluster/images.py load "$CONTAINERD" "localhost/xinstruct${name/#-light/}:$tag"
        done
        say "the cluster has the images of $tag, after $((SECONDS - begin)) s"
    fi
}

# Only what is absent: a machine that has everything needs no package index.
install_packages() {
    local wanted=()
    command -v debootstrap >/dev/null || wanted+=(debootstrap)
    command -v mvn >/dev/null || wanted+=(maven)
    [ ${#wanted[@]} -gt 0 ] || return 0
    say "installing: ${wanted[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null
}

main "$@"
