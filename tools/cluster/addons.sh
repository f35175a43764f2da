#!/usr/bin/env bash
# Installs one add-on on the running cluster: metrics, kserve, keda or trainer. Its makers' own manifest, with images
# that were built here; doing it again changes nothing. Called by up.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tools/cluster/settings.bash
source tools/cluster/settings.bash
PATH=$BIN:$PATH
PYTHON=.venv/bin/python  # with PyYAML, which the lock has

main() {
    local begin=$SECONDS
    "install_$1"
    say "$1 is there after $((SECONDS - begin)) s"
}

install_metrics() {
    image "metrics-server:$METRICS_SERVER_VERSION" "metrics-server-$METRICS_SERVER_VERSION" /metrics-server 65532
    apply "metrics-server-$METRICS_SERVER_VERSION" metrics "$METRICS_SERVER_VERSION"
    ready kube-system metrics-server
    served v1beta1.metrics.k8s.io
}

install_kserve() {
    image "kserve-controller-manager:$KSERVE_VERSION" "kserve-controller-manager-$KSERVE_VERSION" /manager 65532
    image "kserve-agent:$KSERVE_VERSION" "kserve-agent-$KSERVE_VERSION" /agent 65532
    webhook_certificate kserve-webhook kserve-webhook-server-service.kserve.svc
    apply "kserve-$KSERVE_VERSION" kserve "$KSERVE_VERSION"
    ready kserve kserve-controller-manager
    within 30 kserve_answers || fail "KServe's webhook does not answer"
}

# Its Service may need a moment after the rollout: until a dry run passes the webhook.
kserve_answers() {
    kubectl create --dry-run=server -f - <<'YAML'
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: probe, namespace: default}
spec: {predictor: {containers: [{name: kserve-container, image: localhost/none:1}]}}
YAML
}

install_keda() {
    image "keda-operator:$KEDA_VERSION" "keda-operator-$KEDA_VERSION" /keda 1000
    image "keda-adapter:$KEDA_VERSION" "keda-adapter-$KEDA_VERSION" /keda-adapter 1000
    apply "keda-$KEDA_VERSION" keda "$KEDA_VERSION"
    ready keda keda-operator
    ready keda keda-metrics-apiserver
    served v1beta1.external.metrics.k8s.io
}

install_trainer() {
    image "jobset:$JOBSET_VERSION" "jobset-$JOBSET_VERSION" /manager 65532
    image "trainer:$TRAINER_VERSION" "trainer-$TRAINER_VERSION" /manager 65532
    apply "jobset-$JOBSET_VERSION" jobset "$JOBSET_VERSION"
    apply "trainer-$TRAINER_VERSION" trainer "$TRAINER_VERSION"
    ready jobset-system jobset-controller-manager
    ready kubeflow-system kubeflow-trainer-controller-manager
    within 30 trainer_answers || fail "the webhooks of JobSet and the Trainer do not answer"
}

trainer_answers() {
    kubectl create --dry-run=server -f - <<'YAML'
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata: {name: probe, namespace: default}
spec:
  replicatedJobs:
    - name: node
      template: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: node, image: localhost/none:1}]}}}}
---
apiVersion: trainer.kubeflow.org/v1alpha1
kind: TrainingRuntime
metadata: {name: probe, namespace: default}
spec:
  template:
    spec:
      replicatedJobs:
        - name: node
          template: {spec: {template: {spec: {containers: [{name: node, image: localhost/none:1}]}}}}
YAML
}

# image NAME:TAG PROGRAM PATH_IN_IMAGE USER
image() {
    tools/cluster/images.py program "localhost/$1" "$BUILT/$2" "$3" --user "$4" >/dev/null
    tools/cluster/images.py load "$CONTAINERD" "localhost/$1"
}

# apply MANIFEST ADDON VERSION: server-side, for some are too big for the annotation that the other way keeps.
apply() {
    $PYTHON tools/cluster/addons.py "$2" "$3" --authority "$PKI" <"$BUILT/$1.yaml" >"$RUN/$1.yaml"
    # What is of a kind that the same file defines, or has a webhook that it starts, comes in a second or third try.
    within 60 kubectl apply --server-side --force-conflicts -f "$RUN/$1.yaml" ||
        kubectl apply --server-side --force-conflicts -f "$RUN/$1.yaml" >/dev/null
}

ready() {
    kubectl -n "$1" rollout status "deployment/$2" --timeout=120s >/dev/null || fail "$2 is not ready after 120 s"
}

# served API: what the API server hands on to the add-on arrives there.
served() {
    kubectl wait --for=condition=Available "apiservice/$1" --timeout=60s >/dev/null || fail "nobody answers for $1"
}

# webhook_certificate NAME HOST: signed by the cluster's authority, in the place of cert-manager.
webhook_certificate() {
    [ ! -e "$PKI/$1.crt" ] || return 0
    source tools/cluster/certificates.bash
    (cd "$PKI" && certificate "$1" "/CN=$2" "DNS:$2")
}

main "$1"
