# What is asked of this tree, in one place. `make help` lists it.

GO       ?= go
BUILD     = CGO_ENABLED=0 $(GO) build -trimpath

# Bounds and sizes; override on the command line: make fuzz FUZZTIME=5m. Tests of whole members wait most of their time,
# so that more of them run at once than there are processors.
TIMEOUT  ?= 15m
PARALLEL ?= 4
FUZZTIME ?= 20s
SEED     ?= 1
RUNS     ?= 200
KEEP     ?=

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## bin/ekiden and bin/ekiden-bench, static
	$(BUILD) -o bin/ekiden ./cmd/ekiden
	$(BUILD) -o bin/ekiden-bench ./cmd/ekiden-bench

.PHONY: demo
demo: build ## relay 20,000 messages to a pretend internet, with live progress (KEEP=1 leaves it running)
	bin/ekiden-bench demo $(if $(KEEP),--keep)

.PHONY: test
test: ## the whole test suite
	$(GO) test -timeout $(TIMEOUT) -parallel $(PARALLEL) ./...

.PHONY: race
race: ## the whole test suite under the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race -timeout 60m ./...

.PHONY: fuzz
fuzz: ## every fuzzer for FUZZTIME (20s)
	@set -e; for file in $$(grep -rlE --include='*_test.go' '^func Fuzz' .); do \
		for name in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' $$file); do \
			echo "+ fuzz $$(dirname $$file) $$name"; \
			$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) $$(dirname $$file); \
		done; \
	done

.PHONY: sim
sim: build ## RUNS simulations from SEED on; a failing seed is printed with how to replay it
	bin/ekiden-bench sim --seed $(SEED) --runs $(RUNS)

.PHONY: profile
profile: build ## a fresh profile for the compiler, from relaying (needs Debian's postfix)
	bin/ekiden-bench relay --tool postfix --messages 80000 --profile bin/kept.pprof
	bin/ekiden-bench relay --messages 60000 --domains 1000 --profile bin/domains.pprof
	$(GO) tool pprof -proto bin/kept.pprof bin/domains.pprof > bin/default.pgo
	mv bin/default.pgo cmd/ekiden/default.pgo

.PHONY: bench
bench: build ## the figures of the README, measured on this machine
	bin/ekiden-bench figures

.PHONY: faults
faults: build ## the fault runs at full size: kill -9, power cut, full and failing disk, slow clients, clusters (two hours; some need root)
	bin/ekiden-bench faults all --seed $(SEED)

.PHONY: lint
lint: ## gofmt, go vet, staticcheck
	@files=$$(gofmt -l .) && { [ -z "$$files" ] || { echo "not gofmt'ed:"; echo "$$files"; exit 1; }; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

.PHONY: house
house: ## the rules of the house: who may import whom, what is fenced in where
	$(GO) test -count=1 ./internal/house

.PHONY: gen
gen: ## generate the RPC's messages and stubs (needs protoc; see admin/adminpb/doc.go)
	@command -v protoc >/dev/null || { echo "make gen needs protoc and its Go plugins: see admin/adminpb/doc.go" >&2; exit 1; }
	$(GO) generate ./admin/adminpb

.PHONY: dev
dev: build ## three members of a cluster and a sink on loopback, left running (data in ./ekiden-dev)
	bin/ekiden-bench dev

.PHONY: clean
clean: ## remove what build made; never touches ekiden-data, which holds mail
	rm -rf bin
