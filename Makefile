# The house. `make help` lists what there is; `make check` is what CI runs.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

GO       ?= go
# Without this tag grpc links text/template, which keeps every exported method in the binary (docs/adr/0002).
TAGS     := grpcnotrace
VERSION  ?= 0.1.0-dev
LDFLAGS  := -s -w
# Real processes (make e2e, make crash) and the rules of the house (make docs) run by themselves; everything else is a
# unit.
PACKAGES  = $$($(GO) list -tags $(TAGS) ./... | grep -vE '/test/(e2e|crash|arch)(/|$$)')
LEAVES   := $(patsubst %/go.mod,%,$(filter-out tools/go.mod,$(wildcard */go.mod test/*/go.mod)))
STATIC   := $(GO) tool -modfile=tools/go.mod staticcheck -tags $(TAGS)
# The race detector needs a C compiler; where there is none the tests run without it, and say so.
RACE     := $(shell command -v $$($(GO) env CC) >/dev/null 2>&1 && echo -race)
FUZZTIME ?= 20s
# How long make crash is; every merge: KILLS=50 CUTS=10 BACKLOG=2GiB. A release sets HOLDFAST_NO_SKIP=1.
KILLS    ?= 1000
CUTS     ?= 100
BACKLOG  ?= 10GiB

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z][a-z0-9-]*:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

.PHONY: build
build: ## bin/holdfast, static
	CGO_ENABLED=0 $(GO) build -trimpath -tags $(TAGS) -ldflags '$(LDFLAGS)' -o bin/holdfast ./cmd/holdfast

.PHONY: check
check: lint docs race ## what CI runs: lint, architecture, documents, every unit test with the race detector

.PHONY: lint
lint: format vet static ## gofmt, go vet, staticcheck

.PHONY: format
format:
	@files=$$(gofmt -l cmd internal test bench); \
	if [ -n "$$files" ]; then echo "gofmt would change:"; echo "$$files"; exit 1; fi

.PHONY: vet
vet:
	$(GO) vet -tags $(TAGS) ./...

.PHONY: static
static:
	$(STATIC) ./...

.PHONY: docs
docs: ## links, named tests and decision records in the documents; the rules of the house
	$(GO) test -count=1 ./test/arch

.PHONY: test
test: ## every unit test, without the race detector: quick
	packages=$(PACKAGES); $(GO) test -tags $(TAGS) -timeout 5m $$packages

.PHONY: race
race: ## every unit test, with the race detector
	@$(if $(RACE),:,echo "SKIP race detector: no C compiler ($$($(GO) env CC)) on this machine")
	packages=$(PACKAGES); $(GO) test $(RACE) -tags $(TAGS) -timeout 20m $$packages

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (20s) each
	@$(GO) list -tags $(TAGS) -f '{{.ImportPath}} {{.Dir}}' ./... | while read -r package dir; do \
	  for target in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]*' "$$dir"/*_test.go 2>/dev/null | cut -c6-); do \
	    echo "fuzz $$target in $$package"; \
	    $(GO) test -tags $(TAGS) -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 2s -parallel 2 "$$package" </dev/null; \
	  done; \
	done

.PHONY: e2e
e2e: build ## real processes, judged by the ledger
	$(GO) test -count=1 -tags $(TAGS) -timeout 25m ./test/e2e/...

.PHONY: crash
crash: build ## real processes killed KILLS (1000) times, cut off CUTS (100) times, with a BACKLOG (10GiB); figures, skips
	@status=0; \
	HOLDFAST_KILLS=$(KILLS) $(GO) test -count=1 -tags $(TAGS) -timeout 4h -v -run TestKilledUnderLoad ./test/e2e || status=1; \
	HOLDFAST_KILLS=$(KILLS) HOLDFAST_CUTS=$(CUTS) HOLDFAST_BACKLOG=$(BACKLOG) \
	  $(GO) test -count=1 -tags $(TAGS) -timeout 4h -v ./test/crash || status=1; \
	exit $$status

.PHONY: bench
bench: build ## side by side with the reference collector; BENCH=-quick for a first look (docs/benchmarks.md)
	$(GO) -C bench run . -holdfast ../bin/holdfast $(BENCH)

# Built once: it takes minutes, and its versions are pinned in bench/go.mod.
bench/bin/reference:
	CGO_ENABLED=0 $(GO) -C bench build -trimpath -tags $(TAGS) -ldflags '$(LDFLAGS)' -o bin/reference ./reference

.PHONY: compare
compare: build bench/bin/reference ## the same faults, reference collector and holdfast; the table of docs/comparison.md
	$(GO) -C bench build -o bin/compare ./compare
	cd bench && exec bin/compare -holdfast ../bin/holdfast $(COMPARE)

.PHONY: failover
failover: build ## every backend fault against the guides' failover configurations; docs/failover-faults.md, FAILOVER=-list
	$(GO) build -tags $(TAGS) -o bin/matrix ./test/matrix
	exec bin/matrix $(FAILOVER)

.PHONY: drill-docs
drill-docs: build ## play the drills of docs/drill.md and write what came of them into it; DRILL='-only guide-b'
	$(GO) run ./test/drilldocs $(DRILL)

.PHONY: record-outage
record-outage: build ## record anew what the alert rules are played: real outages, six minutes (test/alerts/testdata)
	$(GO) build -o bin/outage ./test/outage
	exec bin/outage -scrapes 320 $(OUTAGE)

.PHONY: accept
accept: ## the journal against its disk: the acceptance table; ACCEPT='-backlog-mib 4096' for a release
	$(GO) -C bench build -o bin/stock ./stock
	$(GO) build -o bench/bin/acceptance ./test/acceptance
	exec bench/bin/acceptance -dir bench/bin -stock bench/bin/stock $(ACCEPT)

.PHONY: page
page: ## the status page in a browser and top on a terminal, through a real outage; skipped without chromium
	$(GO) -C test/page test -count=1 -timeout 10m -v . | grep -v '^=== '

# What docs/ shows; the test takes pictures of every phase on every screen, these are the ones worth keeping.
SHOTS := well-desk-light primary-down-desk-light primary-down-phone-light all-down-desk-dark refused-desk-light \
  top-primary-down top-all-down

.PHONY: page-shots
page-shots: ## the pictures of docs/status-page.md, taken anew
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	HOLDFAST_NO_SKIP=1 HOLDFAST_PICTURES=$$dir HOLDFAST_DEMO_SECONDS=90 \
	  $(GO) -C test/page test -count=1 -timeout 15m . ; \
	mkdir -p docs/pictures; for shot in $(SHOTS); do cp "$$dir/$$shot.png" docs/pictures/; done; ls -l docs/pictures

# Modules of their own for what Prometheus and Kubernetes bring along; the tests themselves take ten seconds.
.PHONY: deployables
deployables: ## what is in deploy/: alert rules played real outages, manifests decoded strictly; CI runs it too
	$(GO) -C test/alerts test ./...
	$(GO) -C test/deploy test ./...

.PHONY: leaves
leaves: ## vet and test the modules beside the product (bench, test clients)
	@for leaf in $(LEAVES); do echo "vet $$leaf"; $(GO) -C $$leaf vet ./...; $(GO) -C $$leaf test ./...; done

.PHONY: clean
clean: ## remove what was built
	rm -rf bin bench/bin
