# `make` lists the targets. The two that a newcomer needs: `make cluster` and `make cluster-down`.
.DEFAULT_GOAL := help
SHELL := /bin/bash
MAKEFLAGS += --no-print-directory

VENV ?= .venv
# The python that everything runs with; when set by hand (make test PY=/some/venv/bin/python), nothing is installed.
PY ?= $(VENV)/bin/python

# The local cluster: node i listens on GRPC_PORT+i-1, PEER_PORT+i-1 and HTTP_PORT+i-1.
NODES ?= 3
GRPC_PORT ?= 7401
PEER_PORT ?= 7411
HTTP_PORT ?= 7421
CLUSTER_DIR ?= .cluster
CLUSTER_FLAGS = --directory $(CLUSTER_DIR)
UP_FLAGS = $(CLUSTER_FLAGS) --nodes $(NODES) --grpc-port $(GRPC_PORT) --peer-port $(PEER_PORT) --http-port $(HTTP_PORT)

ifeq ($(PY),$(VENV)/bin/python)
RUNTIME := $(VENV)/.installed
DEVELOPMENT := $(VENV)/.installed-dev
endif

help: ## what can be made
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

## --- environment ---

# Installed in place (-e), so only a change of pyproject.toml makes it stale.
$(VENV)/.installed: pyproject.toml
	@scripts/make_venv.sh $(VENV) $(PYTHON)
	@echo "installing replcache into $(VENV)"
	@$(VENV)/bin/python -m pip install --quiet --use-pep517 --disable-pip-version-check -e '.[certs]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "installing the tools for tests and checks into $(VENV)"
	@$(VENV)/bin/python -m pip install --quiet --use-pep517 --disable-pip-version-check -e '.[dev]'
	@touch $@

install: $(RUNTIME) ## make .venv and install replcache into it

dev: $(DEVELOPMENT) ## install the tools for tests and checks too

## --- a local cluster ---

cluster: $(RUNTIME) ## start a local 3-node cluster and take a short tour
	@$(PY) -m replcache.cli.main cluster up $(UP_FLAGS)
	@$(PY) -m replcache.cli.main cluster tour $(CLUSTER_FLAGS)

cluster-up: $(RUNTIME) ## start it without the tour
	@$(PY) -m replcache.cli.main cluster up $(UP_FLAGS)

cluster-status: $(RUNTIME) ## what each of its nodes does now
	@$(PY) -m replcache.cli.main cluster status $(CLUSTER_FLAGS)

cluster-down: $(RUNTIME) ## stop it; data stays in .cluster
	@$(PY) -m replcache.cli.main cluster down $(CLUSTER_FLAGS)

demo: $(RUNTIME) ## a recommender on real data, without and with the cache (ARGS="--users 10000 --database postgresql"); picture in .demo/
	@$(if $(RUNTIME),$(PY) -m pip install --quiet --disable-pip-version-check -e '.[demo]')
	PYTHONPATH=. $(PY) -m examples.recommender $(ARGS)

## --- checks ---

# Stages run one after another, two files at a time: the fast ones first, those with real processes last.
STAGE_FAST = $(wildcard tests/tidy tests/unit tests/property tests/contract tests/hazards tests/fuzz)
STAGE_SIMULATION = $(wildcard tests/simulation)
STAGE_PROCESSES = $(wildcard tests/integration tests/fault tests/e2e)
PYTEST = $(PY) -m pytest -q $(PYTEST_FLAGS)

test: test-fast test-simulation test-processes ## all tests (under 12 minutes)

test-fast: $(DEVELOPMENT) ## unit, property, contract and tidy tests
	PYTHONASYNCIODEBUG=1 PYTHONHASHSEED=0 $(PYTEST) -n 2 --dist loadfile $(STAGE_FAST)

test-simulation: $(DEVELOPMENT) ## whole clusters on virtual time
	$(if $(STAGE_SIMULATION),PYTHONHASHSEED=0 $(PYTEST) $(STAGE_SIMULATION))

test-processes: $(DEVELOPMENT) ## real nodes: integration, faults, end to end
	$(if $(STAGE_PROCESSES),$(PYTEST) -n 2 --dist loadfile $(STAGE_PROCESSES))

e2e: $(DEVELOPMENT) ## what a user types and opens: command line, status page, deployment files, examples in the documents
	$(PYTEST) tests/e2e

interop: $(DEVELOPMENT) ## programs in other languages on live clusters (LANGUAGES="go rust"; all that this machine has tools for)
	$(PY) -m tests.interop.run $(ARGS) $(LANGUAGES)

mission: $(DEVELOPMENT) ## the large versions of the promises, one test for each (docs/mission.md); takes long
	$(PYTEST) -s tests/mission

## --- longer runs, on demand; ARGS="--help" shows further options ---

SEED ?=
DURATION ?= 60
SEEDS ?= 1000
ROUNDS ?= 3
KILLS ?= 30
BENCH_DIR ?= .bench
HOURS ?= 1
CYCLES ?= 100
KB ?= 64
MINUTES ?= 5

chaos: $(DEVELOPMENT) ## workloads under a nemesis on real processes (SEED=n DURATION=s); report in .chaos/
	$(PY) -m tests.fault.chaos --seconds $(DURATION) $(if $(SEED),--seed $(SEED)) $(ARGS)

power-cuts: $(DEVELOPMENT) ## power cuts of all nodes at once, on a file system of its own (CYCLES=n, root)
	REPLCACHE_TEST_POWER_CUTS=$(CYCLES) $(PYTEST) -s tests/fault/test_cluster_power_cut.py

damage: $(DEVELOPMENT) ## every flipped bit and truncation of a log file of KB kilobytes
	REPLCACHE_TEST_WAL_KB=$(KB) $(PYTEST) --timeout 7200 tests/property/test_wal_damage.py

soak: $(DEVELOPMENT) ## hours of use with a fault now and then; nothing may grow (HOURS=n SEED=n); report in .soak/
	$(PY) -m tests.fault.soak --hours $(HOURS) $(if $(SEED),--seed $(SEED)) $(ARGS)

fuzz: $(DEVELOPMENT) ## damaged frames, files, requests and configuration with fresh seeds (MINUTES=n)
	$(PY) -m tests.fuzz.run --minutes $(MINUTES) $(ARGS)

simulate: $(DEVELOPMENT) ## whole clusters on virtual time (SEEDS=n)
	PYTHONHASHSEED=0 $(PY) -m tests.simulation.run --seeds $(SEEDS) --jobs 2 $(ARGS)

bench: $(DEVELOPMENT) ## beside etcd and Redis in one run (ROUNDS=n), plots in .bench/; installs them on Debian when missing
	@scripts/install_rivals.sh
	@$(if $(RUNTIME),$(PY) -m pip install --quiet --disable-pip-version-check -e '.[bench]')
	PYTHONPATH=. $(PY) -m benchmarks.versus --rounds $(ROUNDS) --json $(BENCH_DIR)/versus.json $(ARGS)
	PYTHONPATH=. $(PY) -m benchmarks.plots $(BENCH_DIR)/versus.json $(BENCH_DIR)

bench-unary: $(DEVELOPMENT) ## single gRPC calls from h2load: CPU a call, with and without gateways, beside etcd
	@scripts/install_rivals.sh h2load
	@$(if $(RUNTIME),$(PY) -m pip install --quiet --disable-pip-version-check -e '.[bench]')
	PYTHONPATH=. $(PY) -m benchmarks.unary --rounds $(ROUNDS) $(ARGS)

bench-failover: $(DEVELOPMENT) ## kill -9 of leaders under load: gap and lost writes, beside etcd and Sentinel (KILLS=n)
	@scripts/install_rivals.sh
	@$(if $(RUNTIME),$(PY) -m pip install --quiet --disable-pip-version-check -e '.[bench]')
	PYTHONPATH=. $(PY) -m benchmarks.failover --kills $(KILLS) $(ARGS)

## --- code ---

lint: $(DEVELOPMENT) ## ruff, mypy, import layers, generated code
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) scripts/check_layers.py
	$(PY) proto/generate.py --check
	PYTHONPATH=. $(PY) scripts/generate_docs.py --check

audit: $(DEVELOPMENT) ## known vulnerabilities of the installed packages, as far as the database can be reached
	$(PY) scripts/audit.py

format: $(DEVELOPMENT) ## rewrite the code in the common format
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

proto: $(DEVELOPMENT) ## regenerate replcache/pb from proto/
	$(PY) proto/generate.py

generate: proto ## regenerate the stubs and the documents that follow from the code
	PYTHONPATH=. $(PY) scripts/generate_docs.py

docs: $(DEVELOPMENT) ## the documentation as a site, in site/ (open site/index.html); a broken link is an error
	@# The variable silences an announcement of the theme's authors; nothing is loaded from outside.
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet
	@echo "site/index.html"

clean: ## remove what make made (not a running cluster's data)
	rm -rf $(VENV) $(VENV)-bootstrap build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help install dev cluster cluster-up cluster-status cluster-down demo test test-fast test-simulation \
	test-processes e2e interop chaos power-cuts damage soak fuzz simulate bench bench-failover lint audit format proto generate docs clean
