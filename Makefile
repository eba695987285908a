# Thin wrappers: each target passes ARGS on to the program that does the work.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help venv demo check test prepare conformance bench fuzz clean lock format

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
SOURCES := wire runtime control-server relay node-agent operator cli lab bench tests

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

venv: $(VENV)/.ready ## Make .venv with every program (warren, warren-lab, …)

$(VENV)/.ready: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "warren needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "python's venv module is missing: apt-get install python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: venv ## Two real clusters behind NAT become one mesh (needs root; ARGS="--keep --json FILE")
	$(BIN)/warren-lab demo $(ARGS)

check: venv ## Format, lint, types, import contracts, unit and property tests (below 2 minutes)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest tests/unit $(ARGS)

test: check prepare ## Everything: check, real sockets, namespaces, real clusters and stock peers (needs root)
	$(BIN)/pytest tests/service tests/netns tests/lab tests/vm $(ARGS)

prepare: venv
	$(BIN)/warren-lab prepare

conformance: venv ## The policy compiler against recorded cases: WARREN_POLICY_CASES=FOLDER make conformance
	$(BIN)/pytest tests/conformance $(ARGS)

bench: venv ## Figures against a peer in the same run: make bench ARGS=NAME
	$(BIN)/python bench $(ARGS)

fuzz: venv ## Coverage-guided inputs at parsers that strangers reach: make fuzz [TARGET=frames|policy|…] [RUNS=200000]
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/pip install --quiet --disable-pip-version-check atheris
	@mkdir -p build/fuzz
	for target in $(or $(TARGET),policy $$($(BIN)/python -c 'import sys; sys.path.insert(0, "tests"); from support.fuzzing import TARGETS; print(*TARGETS)')); do \
	  echo "fuzzing $$target"; \
	  $(BIN)/python tests/fuzz/run.py $$target build/fuzz -runs=$(or $(RUNS),200000) -max_len=4096 -print_final_stats=0 || exit 1; \
	done

format: venv ## Format the sources
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

lock: ## Write requirements/*.txt anew from pyproject.toml (needs uv)
	requirements/lock

clean: ## Remove what was built here (not the cached tools: warren-lab clean)
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
