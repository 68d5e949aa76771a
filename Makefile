# Needs Go and make, nothing else: tools and peers come from the Go module
# proxy. `make help` lists the goals.

.DEFAULT_GOAL := build
SHELL := /bin/sh

GO ?= go
TOOL := $(GO) tool -modfile=internal/tools/go.mod

VERSION ?= $(or $(shell git describe --tags --dirty 2>/dev/null),0.1.0-dev)
COMMIT ?= $(shell git rev-parse HEAD 2>/dev/null)
LDFLAGS := -X main.version=$(VERSION) -X main.commit=$(COMMIT)

# The race detector needs a C compiler; Go turns cgo off where there is none.
RACE := $(if $(filter 1,$(shell $(GO) env CGO_ENABLED)),-race)

RUN_FLAGS ?=
TEST_FLAGS ?=
FUZZTIME ?= 30s
SOAK_ROUNDS ?= 200

.PHONY: help build run test unit lint fmt vet staticcheck gofumpt bench bench-full bench-replay fuzz soak cover docs clean

help: ## list the goals
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## write bin/verdict
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/verdict ./cmd/verdict

run: build ## serve in development mode on 127.0.0.1:8181 with ./data
	exec bin/verdict serve --dev --data-dir ./data $(RUN_FLAGS)

test: lint unit ## everything that CI runs

unit: ## the tests, with the race detector; 1,000 activations without it
	$(if $(RACE),,@echo "no C compiler: the race detector is left out")
	$(GO) test $(RACE) -timeout 24m $(TEST_FLAGS) ./...
	$(if $(RACE),$(GO) test -timeout 5m -run '^TestManyActivations$$' ./bundles)
	cd bench && $(GO) test -timeout 24m $(TEST_FLAGS) ./...

lint: gofumpt vet staticcheck ## formatting, vet and staticcheck

vet:
	$(GO) vet ./...
	cd bench && $(GO) vet ./...

staticcheck:
	$(TOOL) staticcheck ./...

gofumpt:
	@found=$$($(TOOL) gofumpt -l .) || exit 1; \
	if [ -n "$$found" ]; then echo "gofumpt would change (run make fmt):"; echo "$$found"; exit 1; fi

fmt: ## format everything
	$(TOOL) gofumpt -w .

bench: build ## measure beside OPA, under 4 minutes
	@mkdir -p docs/performance
	cd bench && $(GO) build -o bin/bench . && ./bin/bench run -out ../docs/performance/bench

bench-replay: build ## replay 100,000 recorded decisions
	cd bench && $(GO) build -o bin/bench . && ./bin/bench replay

bench-full: build ## measure the whole workload beside OPA
	@mkdir -p docs/performance
	cd bench && $(GO) build -o bin/bench . && ./bin/bench run -full -out ../docs/performance/bench-full && \
	  ./bin/bench memory -out ../docs/performance/memory

fuzz: ## run each fuzz target for FUZZTIME (30s)
	@set -e; for package in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
	    echo "== $$package $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
	  done; \
	done

soak: build ## the long tests: SOAK_ROUNDS (200) rounds of kill -9
	SOAK_ROUNDS=$(SOAK_ROUNDS) $(GO) test -count=1 -timeout 4h -v -run 'Soak|Kill' ./...

cover: ## line coverage, as bin/cover.html
	@mkdir -p bin
	$(GO) test -coverpkg=./... -coverprofile=bin/cover.out ./...
	$(GO) tool cover -html=bin/cover.out -o bin/cover.html
	@$(GO) tool cover -func=bin/cover.out | tail -n 1

docs: ## write the pages that are made from the code
	$(GO) test ./cmd/verdict -run 'TestDocs|TestOpenAPIFile' -update

clean: ## remove what build and cover wrote
	rm -rf bin
