# Two commands do everything on a fresh machine with Go, make and root:
#   make demo    the sample's pipeline through a real gitlab-runner (PROFILE=strict for the hardest)
#   make test    every test there is
# What they install or build (Debian packages, the runner, images) is kept in TEST_CACHE.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PROFILE ?= hardened
FUZZTIME ?= 10s
BENCH_RUNS ?= 20
BENCH ?=
BENCH_ARGS ?=
# What integration runs a second time, with rooms that are made ahead of their jobs (TEST_POOL=2 go test . runs all so).
POOLED ?= ^Test(Audit|CacheBelongsToProjectAndProtection|CancelIsGentleFirst|ExitCodeReachesGitLab|InspectShowsNoVariable|KilledAnywhere|NoValueIsAnywhereButInItsRoom|SecretIsDenied)$$
# How long a test of many like cases begins with more of them, in an order of chance; 0: all. What was left out is told.
BOX ?= 15s
N ?= 80
C ?= 4
export TEST_CACHE ?= /var/cache/cleanroom
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.1.0-dev)
GO_BUILD := CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)"
SETUP := . integration/setup.sh

.PHONY: build images demo test check unit integration bench bench-redact soak fuzz clean help

help: ## show these lines
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

build: ## build bin/cleanroom, bin/cleanroom-admin and bin/cleanroom-init
	@mkdir -p bin
	$(GO_BUILD) -o bin/ ./cmd/cleanroom ./cmd/cleanroom-admin ./cmd/cleanroom-init

images: ## make the helper image and those of the sample and the tests
	@$(SETUP) && setup_base

demo: build ## run the sample's pipeline and show its logs
	@$(SETUP) && setup_base && cd integration && go run ./cmd/demo --profile "$(PROFILE)"

test: check unit integration soak ## run everything

check: ## formatting and vet
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "not gofmt'd: $$unformatted" >&2; exit 1; }
	go vet ./...
	cd integration && go vet ./...
	cd integration/runner && go vet ./cmd/...

unit: build ## unit and CLI tests, and those of the room on a real engine
	@$(SETUP) && setup_unit && go test -count=1 -timeout 30m ./...

# One package at a time: they look at the whole machine.
integration: build ## the whole thing with a real gitlab-runner and engine
	@$(SETUP) && setup_all && cd integration && export BOX="$(BOX)" LEFT_OUT="$$(mktemp)" && \
		go test -count=1 -p 1 -timeout 45m ./... && \
		TEST_POOL=2 go test -count=1 -timeout 15m -run '$(POOLED)' . && \
		sed 's/^/[integration] this machine is slow: /' "$$LEFT_OUT" && rm "$$LEFT_OUT"

bench: build ## jobs under five executors, side by side; redaction, guard, a million audit records, a start; BENCH="true log" picks
	@$(SETUP) && setup_base && cd integration && go run ./cmd/bench --runs "$(BENCH_RUNS)" $(BENCH_ARGS) $(BENCH)
	@go test -run '^$$' -bench Start ./cmd/cleanroom

bench-redact: ## of these only redaction, which needs no engine
	@cd integration && go run ./cmd/bench redact

soak: build ## N jobs of mixed kinds, C at once, and what is left of them
	@$(SETUP) && setup_base && cd integration && go run ./cmd/soak --jobs "$(N)" --concurrent "$(C)"

fuzz: ## run every fuzz target for FUZZTIME each
	@for p in $$(go list ./...); do for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
		echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$p; done; done

clean: ## remove what build made
	rm -rf bin
