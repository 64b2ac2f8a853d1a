# `make run` and `make test` do all the set-up by themselves, on a machine with Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup run test check bench-depth format clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: .venv/installed  ## the virtual environment, from the hashed lock

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: setup  ## five methods, three seeds, on real digits; then the table
	$(BIN)/snn-exp train experiment=quick

test: setup  ## the whole test suite
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: setup  ## lint, format, types, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

bench-depth: setup  ## memory and time of a training step, 8 to 1202 layers, into benchmarks/depth.md
	$(BIN)/python benchmarks/depth.py

format: setup  ## put the code in form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock:  ## resolve requirements.lock anew (needs uv)
	uv pip compile --quiet --extra dev --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
		--universal --python-version 3.11 pyproject.toml -o requirements.lock

clean:  ## remove the environment and caches; results in outputs/ stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
