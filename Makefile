# Everything a developer types. Needs GNU make and Python 3.11 or 3.12; the rest is installed into .venv, once.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= # the interpreter for .venv; found if not given
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help demo test check models models-long bench bench-relay soak cover fmt venv clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(VENV)/.installed ## a relay and its members, for real, in about four minutes
	@$(BIN)/cocoon demo

test: $(VENV)/.installed ## all tests but the soak
	@$(PYTEST) -n $(WORKERS) --dist worksteal -q

check: $(VENV)/.installed ## linter, formatter, types, layers, specs against code
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy cocoon_core relay clients tests
	@$(BIN)/lint-imports --no-logo
	@$(PYTEST) -q tests/vectors tests/unit/test_constants.py

models: $(VENV)/.installed ## the models of specs/models, small
	@$(BIN)/python -m tests.models

models-long: $(VENV)/.installed ## the same, large: many minutes
	@$(BIN)/python -m tests.models --long

bench: $(VENV)/.installed ## the numbers, measured here
	@$(BIN)/python -m tests.benchmarks

bench-relay: $(VENV)/.installed ## the relay beside bare loops and other servers (FULL=--full: large stores)
	@$(BIN)/python -m tests.benchmarks.relay $(FULL)

soak: $(VENV)/.installed ## the tests that run for minutes
	@$(PYTEST) -q -m soak --timeout 0

cover: $(VENV)/.installed ## tests with coverage
	@$(PYTEST) -n $(WORKERS) -q --cov --cov-report=term

fmt: $(VENV)/.installed ## format and mend what can be mended
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

venv: $(VENV)/.installed ## only the environment

clean: ## remove the environment and all caches
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage*

$(VENV)/.installed: pyproject.toml .ci/tools.txt
	@sh .ci/venv "$(VENV)" "$(PYTHON)"
	@touch $@
