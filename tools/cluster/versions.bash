# shellcheck shell=bash disable=SC2034
# What the machine-local cluster is made of, by exact version. Sourced. DECISIONS.md says why these.
KUBERNETES_VERSION=1.36.3  # kube/go.mod holds the same, and etcd 3.6.8
HELM_VERSION=4.3.1
COREDNS_VERSION=1.14.7
METRICS_SERVER_VERSION=0.9.0
KSERVE_VERSION=0.19.0
KEDA_VERSION=2.21.0
JOBSET_VERSION=0.10.1
TRAINER_VERSION=2.0.0
