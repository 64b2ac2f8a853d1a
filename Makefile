# `make run` and `make test` do all the set-up by themselves, on a machine with Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup run test equivalence browser check bench-depth format lock clean

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

test: setup  ## the whole test suite, but for the peers' part (deselected; see equivalence)
	$(BIN)/python -m pytest -n 2 --dist worksteal

equivalence: setup .peers/installed  ## our parts against SpikingJelly's, our counts against NeuroBench's; .ci/run too
	PYTHONPATH=.peers $(BIN)/python -m pytest -m equivalence tests/test_equivalence.py

.peers/installed: requirements-peers.lock .venv/installed
	rm -rf .peers
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --target .peers -r $<
	@touch $@

browser: setup .browser/installed  ## the page of a report in a real browser, its tables through LaTeX; .ci/run too
	PYTHONPATH=.browser $(BIN)/python -m pytest -m browser tests/test_browser.py

.browser/installed: requirements-browser.lock .venv/installed
	scripts/need chromium chromium && scripts/need pdflatex texlive-latex-recommended
	rm -rf .browser
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --target .browser -r $<
	@touch $@

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

COMPILE := uv pip compile --quiet --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	--universal --python-version 3.11

lock:  ## resolve both locks anew (needs uv)
	$(COMPILE) --extra dev --extra events pyproject.toml -o requirements.lock
	$(COMPILE) --no-deps --group peers -o requirements-peers.lock
	$(COMPILE) --group browser -o requirements-browser.lock

clean:  ## remove the environment and caches; results in outputs/ stay
	rm -rf .venv .peers .browser .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
