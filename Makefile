# The commands of this repository: `make help` lists them. Everything works as root or not, with and without Docker.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GOTEST  ?= go test -race -timeout 10m
PACKAGES ?= ./...

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: build ## Run the service on http://127.0.0.1:8080 with a private PostgreSQL (or DATABASE_URL)
	@[[ -n "$${DATABASE_URL:-}" ]] || scripts/ensure-postgres
	@exec bin/server

.PHONY: demo
demo: build ## Walk through all of it, told step by step, on a private PostgreSQL that is removed in the end
	@scripts/ensure-postgres
	@bin/server demo

.PHONY: playground
playground: build ## Serve half a year of a small bank in several currencies, in a database of its own
	@scripts/ensure-postgres
	@exec bin/server demo --seed

.PHONY: build
build: ## Build bin/server
	go build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/server ./cmd/server

.PHONY: test
test: ## Run all tests with the race detector, on TEST_DATABASE_URL, in TEST_POSTGRES or on a private PostgreSQL
	@[[ -n "$${TEST_DATABASE_URL:-}$${TEST_POSTGRES:-}" ]] || scripts/ensure-postgres
	@scripts/ensure-proxies || true
	$(GOTEST) $(PACKAGES)
	$(if $(filter ./...,$(PACKAGES)),cd test && $(GOTEST) ./...)

.PHONY: bench
bench: build ## Measure against raw PostgreSQL: BENCH=P1,P3 for some, BENCH_DOC=1 to write docs/benchmarks.md, BENCH_FLAGS for more
	@scripts/ensure-postgres
	go build -C test -trimpath -o ../bin/nats-server github.com/nats-io/nats-server/v2
	go build -C test -trimpath -o ../bin/bench ./bench
	bin/bench $(if $(BENCH),-run $(BENCH)) $(if $(BENCH_DOC),-doc docs/benchmarks.md) $(BENCH_FLAGS)

.PHONY: faults
faults: build ## Break the service on purpose and attack it: SEED to repeat a run, DURATION=3m, FAULTS=kill-server,replay for some
	@scripts/ensure-postgres
	go build -C test -trimpath -o ../bin/faults ./faults
	bin/faults $(if $(SEED),-seed $(SEED)) $(if $(DURATION),-duration $(DURATION)) $(if $(FAULTS),-only $(FAULTS)) $(FAULTS_FLAGS)

.PHONY: cluster
cluster: build ## Break a primary, NATS servers and followers under load; as root, also cut them off: ROUNDS=10, CLUSTER_FLAGS for more
	@scripts/ensure-postgres
	go build -C test -trimpath -o ../bin/nats-server github.com/nats-io/nats-server/v2
	go build -C test -trimpath -o ../bin/cluster ./cluster
	bin/cluster $(if $(ROUNDS),-rounds $(ROUNDS)) $(CLUSTER_FLAGS)

.PHONY: faults-short
faults-short: ## The short form of it, a minute: all controls, and some faults
	@$(MAKE) --no-print-directory faults SEED=$(or $(SEED),1) FAULTS_FLAGS=-short

.PHONY: fuzz
fuzz: ## Run each fuzz target in turn: FUZZTIME=30s for how long, FUZZ=Cursor for some, FUZZ_KEEP=20 to keep what they find
	@FUZZTIME="$(FUZZTIME)" FUZZ="$(FUZZ)" FUZZ_KEEP="$(FUZZ_KEEP)" scripts/fuzz

.PHONY: soak
soak: build ## Watch a server under load for what grows: DURATION=1h
	@scripts/ensure-postgres
	go build -C test -trimpath -o ../bin/bench ./bench
	bin/bench soak $(if $(DURATION),-duration $(DURATION)) $(BENCH_FLAGS)

.PHONY: scale
scale: build ## Compare logs of EVENTS=1000000,10000000,100000000 (about 50 GB of disk) with the first
	@scripts/ensure-postgres
	go build -C test -trimpath -o ../bin/bench ./bench
	bin/bench scale $(if $(EVENTS),-events $(EVENTS)) $(BENCH_FLAGS)

.PHONY: test-containers
test-containers: ## Run the tests of log, projector and write side on PostgreSQL 18 in a container: TEST_POSTGRES for another
	@if ! docker info >/dev/null 2>&1; then echo "SKIPPED: there is no Docker engine, so the tests were NOT run on PostgreSQL 18"; exit; fi; set -x; \
	TEST_POSTGRES=$${TEST_POSTGRES:-container:postgres:18} $(GOTEST) -count=1 ./internal/eventstore/... ./internal/projector/... ./internal/command/...

.PHONY: test-versions
test-versions: ## Run the log's, the projector's and the schema's tests on PostgreSQL 16, 17 and 18: VERSIONS=18 for some
	scripts/postgres-versions $(VERSIONS)

.PHONY: test-console
test-console: ## Run the web console's tests in Chromium and Firefox; screenshots go to dist/console (CONSOLE_SCREENSHOTS), and those of docs/console.md to CONSOLE_GALLERY
	@[[ -n "$${TEST_DATABASE_URL:-}$${TEST_POSTGRES:-}" ]] || scripts/ensure-postgres
	go build -race -o bin/server-race ./cmd/server
	@chromium=$$(scripts/ensure-chromium); firefox=$$(scripts/ensure-firefox); axe=$$(scripts/axe-core); \
	if [[ -z $$chromium ]]; then echo "SKIPPED: there is no Chromium"; exit; fi; set -x; cd test; \
	CONSOLE_SERVER=$(CURDIR)/bin/server-race CHROMIUM=$$chromium FIREFOX=$$firefox AXE_CORE=$$axe \
		CONSOLE_SCREENSHOTS="$${CONSOLE_SCREENSHOTS:-$(CURDIR)/dist/console}" $(GOTEST) -tags browser ./console

.PHONY: cover
cover: ## Run all tests and write coverage.html
	@[[ -n "$${TEST_DATABASE_URL:-}$${TEST_POSTGRES:-}" ]] || scripts/ensure-postgres
	@mkdir -p dist
	go test -timeout 10m -coverpkg=./... -coverprofile=dist/cover.out ./...
	@go tool cover -func=dist/cover.out | tail -1
	go tool cover -html=dist/cover.out -o dist/coverage.html

.PHONY: lint
lint: ## Check formatting, go vet, the linters, the import rules, the alert rules, and for known vulnerabilities
	go vet ./...
	cd test && go vet ./...
	scripts/golangci-lint fmt --diff
	scripts/golangci-lint run
	cd test && ../scripts/golangci-lint run
	scripts/nolint
	scripts/promtool check rules deploy/prometheus/alerts.yml
	scripts/promtool test rules deploy/prometheus/alerts_test.yml
	scripts/govulncheck
	@if command -v shellcheck >/dev/null; then shellcheck $(SHELL_FILES); else echo "shellcheck is not installed: scripts not checked"; fi

SHELL_FILES := .ci/run $(wildcard scripts/*) deploy/ha/run deploy/backup/try-restore

.PHONY: fmt
fmt: ## Format the Go code
	scripts/golangci-lint fmt

.PHONY: generate
generate: ## Generate the code that comes from api/openapi.yaml
	go generate ./...

.PHONY: verify
verify: ## Fail if generated code or a go.mod is stale
	scripts/verify

.PHONY: check-kubernetes
check-kubernetes: ## Check the Kubernetes manifests against the types of their objects
	cd deploy/kubernetes/check && go mod tidy -diff && go vet ./... && go test ./...

.PHONY: check-openapi
check-openapi: ## Lint the API's document, and make clients from it with other people's generators, which go the main path
	scripts/openapi-generators

.PHONY: failover
failover: ## Kill the leaders of a Patroni cluster under load, from Debian's packages: FAILOVER_FLAGS for more
	deploy/ha/run $(FAILOVER_FLAGS)

.PHONY: try-restore
try-restore: ## Back a loaded log up, lose it, restore it to a moment and from a dump, and verify it
	deploy/backup/try-restore

.PHONY: compose-up
compose-up: ## Build and start Passbook and PostgreSQL in containers
	scripts/compose up --build -d
	@echo "Passbook listens on http://127.0.0.1:$${PASSBOOK_PORT:-8080}"

.PHONY: compose-test
compose-test: ## Start the containers, try the quickstart against them, remove them
	scripts/compose-test

.PHONY: clean
clean: ## Remove what the other targets have built
	rm -rf bin dist
