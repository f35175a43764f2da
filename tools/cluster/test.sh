#!/usr/bin/env bash
# Runs tests/cluster on real pods. Called by `make test-cluster`.
#
# Without KUBECONFIG: on this machine's cluster, started with all add-ons (ADDONS chooses), with this checkout's images.
# With it: on that cluster, whose images you pushed; XINSTRUCT_IMAGE_REGISTRY, XINSTRUCT_IMAGE_TAG and
# XINSTRUCT_STORAGE_CLASS say where they are and which class makes volumes. TESTS=tests/cluster/test_small.py chooses.
set -euo pipefail
cd "$(dirname "$0")/../.."
GIVEN=${KUBECONFIG:-}
# shellcheck source=tools/cluster/settings.bash
source tools/cluster/settings.bash

if [ -n "$GIVEN" ] && [ "$(realpath "$GIVEN")" != "$(realpath -m "$KUBECONFIG")" ]; then
    export KUBECONFIG=$GIVEN
    for program in kubectl helm; do
        command -v "$program" >/dev/null || fail "needs $program in PATH, for the cluster of $KUBECONFIG"
    done
    export XINSTRUCT_IMAGE_REGISTRY=${XINSTRUCT_IMAGE_REGISTRY:-}
else
    ADDONS=${ADDONS-$ALL_ADDONS} tools/cluster/up.sh
    tools/cluster/images.sh "${XINSTRUCT_IMAGE_TAG:-}"
    # What an upgrade changes to: the same layers under another name.
    export XINSTRUCT_IMAGE_TAG_NEXT=${XINSTRUCT_IMAGE_TAG:-0}-next
    tools/cluster/images.sh "$XINSTRUCT_IMAGE_TAG_NEXT" light
    export PATH=$BIN:$PATH XINSTRUCT_CLUSTER_VOLUMES=$RUN/volumes
fi
# shellcheck disable=SC2086
exec .venv/bin/pytest -rPs ${TESTS:-tests/cluster}
