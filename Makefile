# Herald's commands. Bare `make` prints them.

GO       ?= go
BIN      := bin/gateway
DATA     ?= ./herald-data
LISTEN   ?= 127.0.0.1:7480
FUZZTIME ?= 5s
KILLS    ?= 1000
TIME     ?= 1h
SOAKTIME ?= 10m

# With librados' header and a C compiler, checks and long runs cover what needs
# them too (build tag rados). Asked when a recipe begins, because deps installs
# the header. A build never needs it.
RADOS = $(shell [ -e /usr/include/rados/librados.h ] && command -v gcc >/dev/null && echo -tags=rados)
TAGGED = GOFLAGS="$(strip $(GOFLAGS) $(RADOS))"

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0

.PHONY: help
help: ## print this
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: build ## build and start the gateway with a demo user and a demo bucket (needs only Go)
	@$(BIN) serve --demo --data $(DATA) --listen $(LISTEN)

.PHONY: build
build: ## build bin/gateway
	$(GO) build -o $(BIN) ./cmd/gateway

.PHONY: build-rados
build-rados: ## build bin/gateway with the RADOS drivers (needs librados-dev)
	$(GO) build -tags rados -o $(BIN) ./cmd/gateway

.PHONY: deps
deps: ## install what the tests need (Debian packages, Python packages)
	@./tests/deps.sh

# Packages with files that need librados, as directories.
CEPH = $(shell grep -rl '^//go:build rados' --include='*.go' . | xargs -n 1 dirname | sort -u)
# Those of them that have something without librados where there is none.
SUITES = $(TAGGED) $(GO) list -e -f '{{if or .GoFiles .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' $(CEPH)

# Packages whose tests run against real brokers or Redis, for long without -short.
SERVERS = ./queue/redis $$(ls -d ./tests/*endpoint ./tests/amqp ./tests/kafka ./tests/mqtt ./tests/nats ./tests/soak)

# Most tests wait, for servers and disks: packages at once, more than processors.
ATONCE = -p $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$(( n < 2 ? 4 : 2 * n )))
# Black-box tests build the gateway; here it is compiled once for all of them.
COMPILE = $(GO) build -o /dev/null -tags "faults $(1)" ./cmd/gateway

.PHONY: test
test: deps build ## every test; of crash runs, fuzzing and the suites on servers the short versions
	$(GO) vet ./...
	$(TAGGED) $(GO) vet ./...
	GOOS=darwin $(GO) build ./...
	$(call COMPILE)
	$(GO) test $(ATONCE) -timeout 20m $$($(GO) list ./... | grep -vxF "$$($(GO) list -e $(CEPH) $(SERVERS))")
	@$(if $(RADOS),,echo "make: no librados: what needs Ceph is skipped"; [ "$$CI" != true ])
	$(call COMPILE,$(if $(RADOS),rados))
	$(TAGGED) $(GO) test $(ATONCE) -short -timeout 20m $(SERVERS) $$($(SUITES))
	@$(if $(RADOS),./tests/onrados.sh "$(GO)" short)
	@$(MAKE) --no-print-directory race-core
	@$(MAKE) --no-print-directory fuzz FUZZTIME=2s

.PHONY: suites
suites: deps ## the long versions of the suites on Redis, brokers and Ceph
	$(TAGGED) $(GO) test -timeout 60m $(SERVERS) $$($(SUITES))
	@$(if $(RADOS),./tests/onrados.sh "$(GO)" long)

# The contracts' suites once more under the race detector, one store for all.
.PHONY: race-core
race-core:
	$(GO) test -race -short -timeout 15m -skip 'OtherFilesystem|NoXattr' ./journal/... ./store/... ./queue/... ./notify/... ./auth/...

.PHONY: race
race: ## every test of every package under the race detector
	$(TAGGED) $(GO) test -race -timeout 40m ./...

.PHONY: lint
lint: ## gofmt, go vet, staticcheck, govulncheck
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "not gofmt'ed:"; echo "$$out"; exit 1; }
	$(GO) vet ./...
	$(TAGGED) $(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(TAGGED) $(GO) run $(STATICCHECK) ./...
	@$(TAGGED) ./tests/govulncheck.sh "$(GO)" "$(GOVULNCHECK)"

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (default 5s; long: make fuzz FUZZTIME=10m)
	@$(TAGGED) ./tests/fuzz.sh "$(GO)" "$(FUZZTIME)"

.PHONY: crash
crash: deps build ## kill the gateway KILLS times (default 1000) under load and check that nothing is lost
	HERALD_CRASH_KILLS=$(KILLS) $(TAGGED) $(GO) test -count=1 -timeout 6h -v -run 'TestKillAtRandom|TestManyGateways' ./tests/crash

.PHONY: linear
linear: deps ## two gateways over one Ceph cluster, killed at random for TIME (default 1h): is the history of each key linearizable?
	HERALD_LINEAR_TIME=$(TIME) $(TAGGED) $(GO) test -count=1 -timeout 24h -v -run TestLinear_RADOS ./tests/linear

.PHONY: soak
soak: deps build ## brokers, gateways and topics come and go at random for SOAKTIME (default 10m): does every event arrive, in order per key?
	HERALD_SOAK_TIME=$(SOAKTIME) $(GO) test -count=1 -timeout 24h -v -run TestSoak ./tests/soak

.PHONY: bench
bench: build ## what is measured; see bench/README.md
	@./bench/run.sh

.PHONY: long
long: build suites ## the long versions: 5 GiB multipart, suites on servers, long crash run
	HERALD_LONG=1 $(TAGGED) $(GO) test -count=1 -timeout 6h -v -run 'Long|TestPowerLoss|TestManyTopics' ./tests/...
	@$(MAKE) --no-print-directory crash
