# The commands of this repository: `make help` lists them. Everything works as root or not, with and without Docker.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GOTEST  ?= go test -race -timeout 10m

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: build ## Run the service on http://127.0.0.1:8080 with a private PostgreSQL (or DATABASE_URL)
	@[[ -n "$${DATABASE_URL:-}" ]] || scripts/ensure-postgres
	@exec bin/server

.PHONY: build
build: ## Build bin/server
	go build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/server ./cmd/server

.PHONY: test
test: ## Run all tests with the race detector, on TEST_DATABASE_URL or a private PostgreSQL
	@[[ -n "$${TEST_DATABASE_URL:-}" ]] || scripts/ensure-postgres
	$(GOTEST) ./...

.PHONY: bench
bench: build ## Measure against raw PostgreSQL: BENCH=P1,P3 for some, BENCH_DOC=1 to write docs/benchmarks.md, BENCH_FLAGS for more
	@scripts/ensure-postgres
	go build -trimpath -o bin/bench ./cmd/bench
	bin/bench $(if $(BENCH),-run $(BENCH)) $(if $(BENCH_DOC),-doc docs/benchmarks.md) $(BENCH_FLAGS)

.PHONY: test-containers
test-containers: ## Run the log's and the projector's tests on postgres:18 in a container
	go run ./internal/pgtest/containers

.PHONY: test-console
test-console: ## Run the web console's tests in Chromium; screenshots go to dist/console (CONSOLE_SCREENSHOTS)
	@[[ -n "$${TEST_DATABASE_URL:-}" ]] || scripts/ensure-postgres
	go build -race -o bin/server-race ./cmd/server
	@chromium=$$(scripts/ensure-chromium); axe=$$(scripts/axe-core); \
	if [[ -z $$chromium ]]; then echo "SKIPPED: there is no Chromium"; exit; fi; set -x; \
	CONSOLE_SERVER=$(CURDIR)/bin/server-race CHROMIUM=$$chromium AXE_CORE=$$axe \
		CONSOLE_SCREENSHOTS="$${CONSOLE_SCREENSHOTS:-$(CURDIR)/dist/console}" $(GOTEST) -tags browser ./internal/consoletest

.PHONY: cover
cover: ## Run all tests and write coverage.html
	@[[ -n "$${TEST_DATABASE_URL:-}" ]] || scripts/ensure-postgres
	@mkdir -p dist
	go test -timeout 10m -coverpkg=./... -coverprofile=dist/cover.out ./...
	@go tool cover -func=dist/cover.out | tail -1
	go tool cover -html=dist/cover.out -o dist/coverage.html

.PHONY: lint
lint: ## Check formatting, go vet, the linters and the import rules
	go vet ./...
	scripts/golangci-lint fmt --diff
	scripts/golangci-lint run
	@if command -v shellcheck >/dev/null; then shellcheck $(SHELL_FILES); else echo "shellcheck is not installed: scripts not checked"; fi

SHELL_FILES := .ci/run $(wildcard scripts/*)

.PHONY: fmt
fmt: ## Format the Go code
	scripts/golangci-lint fmt

.PHONY: generate
generate: ## Generate the code that comes from api/openapi.yaml
	go generate ./...

.PHONY: verify
verify: ## Fail if generated code or go.mod is stale
	scripts/verify

.PHONY: compose-up
compose-up: ## Build and start Passbook and PostgreSQL in containers
	scripts/compose up --build -d
	@echo "Passbook answers on http://127.0.0.1:$${PASSBOOK_PORT:-8080}"

.PHONY: compose-test
compose-test: ## Start the containers, try the quickstart against them, remove them
	scripts/compose-test

.PHONY: clean
clean: ## Remove what the other targets have built
	rm -rf bin dist
