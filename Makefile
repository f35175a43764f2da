# xinstruct. `make` or `make help` lists what there is; every target says what it does after its name.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

LANGUAGES ?= all
SEED ?= 1
OUT ?= var/demo

BIN := .venv/bin
DEMO := $(BIN)/xinstruct demo --languages $(LANGUAGES) --seed $(SEED)

##@ Start here

.PHONY: help
help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Make .venv as requirements.lock says; says first how much it downloads; does nothing the second time
	@tools/setup.sh

.PHONY: demo
demo: setup ## The main job on an invented web site, in one process: LANGUAGES=fi,sw,ta SEED=7 OUT=somewhere narrow and place it
	@$(DEMO) --out $(OUT)

.PHONY: demo-kafka
demo-kafka: setup kafka-up postgres-up ## The same with every service as its own process over real Kafka and PostgreSQL
	@$(DEMO) --out $(OUT)-kafka --kafka

.PHONY: test
test: setup ## The whole test suite, with real Kafka and PostgreSQL where they can be had (20 minutes on 2 cores at most)
	@tools/servers.sh
	$(BIN)/pytest tests -n 2 --dist loadfile --durations=20

.PHONY: test-unit
test-unit: setup ## Unit and architecture tests only: seconds, no server
	$(BIN)/pytest tests/unit tests/architecture

.PHONY: test-charts
test-charts: setup ## Chart tests only, by real Helm without a cluster: half a minute
	$(BIN)/pytest tests/charts

.PHONY: crds
crds: setup ## Fetch the schemas of operators' kinds (the first time), which chart tests compare manifests with
	tools/crds.sh

##@ Before a commit

.PHONY: check
check: setup lint types check-protos check-gen check-lock ## Everything that reads the code without running it: under a minute
	$(BIN)/pytest tests/architecture

.PHONY: lint
lint: setup ## ruff
	$(BIN)/ruff check --quiet .

.PHONY: types
types: setup ## mypy --strict on our code
	$(BIN)/mypy

.PHONY: check-protos
check-protos: ## buf lint, and breaking changes against the last commit on main
	tools/check-protos.sh

.PHONY: check-gen
check-gen: setup ## Generated files are what their sources give, byte for byte
	tools/check-gen.sh

.PHONY: check-lock
check-lock: setup ## requirements.lock is what pyproject.toml asks for, with a hash for every file and no host in it
	tools/lock.sh --check

##@ Generated files

.PHONY: gen
gen: setup ## Write stubs, generated docs and the charts' schemas and tables of values again
	tools/gen.sh .

.PHONY: golden
golden: setup ## Write the golden example of a topic that has none; existing ones stay as they are
	$(BIN)/python tests/golden/write.py

.PHONY: golden-charts
golden-charts: setup ## Write tests/charts/golden again: what each profile of our charts gives
	$(BIN)/python tests/charts/golden_files.py

.PHONY: lock
lock: setup ## Resolve pyproject.toml into requirements.lock, keeping the versions that still fit
	tools/lock.sh

.PHONY: tiny-base
tiny-base: setup ## Pre-train models/tiny-base again (hours): texts, catalogue records, verdicts, no instruction
	$(BIN)/python -m xinstruct.training.pretrain --out models/tiny-base

##@ Servers on this machine

.PHONY: kafka-up
kafka-up: ## Fetch Apache Kafka (the first time) and start one broker
	tools/kafka/up.sh

.PHONY: kafka-down
kafka-down: ## Stop it; its data stays
	tools/kafka/down.sh

.PHONY: postgres-up
postgres-up: ## Start a PostgreSQL of its own
	tools/postgres/up.sh

.PHONY: postgres-down
postgres-down: ## Stop it; its data stays
	tools/postgres/down.sh

##@ A Kubernetes cluster on this machine

.PHONY: cluster-up
cluster-up: setup ## Build what is missing (once: half an hour on 2 cores), then start it in a minute: ADDONS="kserve keda"
	@ADDONS="$(ADDONS)" tools/cluster/up.sh

.PHONY: cluster-down
cluster-down: ## Stop it; what was built and the images stay in the user's cache folder
	@tools/cluster/down.sh

.PHONY: cluster-images
cluster-images: setup ## Build the chart's images without a container engine, and give them to the cluster if it is up: TAG=
	@tools/cluster/images.sh "$(TAG)"

.PHONY: test-cluster
test-cluster: setup ## Tests on real pods: this machine's cluster, or KUBECONFIG's (docs/cluster.md)
	@tools/cluster/test.sh

##@ The rest

.PHONY: bench
bench: setup kafka-up ## Benchmarks on a machine that does nothing else: one JSON line a figure; never part of the tests
	@PYTHONPATH=tests $(BIN)/python -m benchmarks

.PHONY: clean
clean: kafka-down postgres-down ## Delete what was made here, but not .venv, .cache and what a demo wrote elsewhere
	rm -rf var .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build

.PHONY: migration
migration: setup ## Write the next revision of the SQL schema from the tables: make migration MESSAGE="..."
	$(BIN)/python tools/write_migration.py "$(MESSAGE)"
