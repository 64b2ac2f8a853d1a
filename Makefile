# `make run` and `make test` do all the set-up by themselves, on a machine with Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
# Debian keeps daemons in /usr/sbin, which a user's PATH may leave out
export PATH := $(PATH):/usr/sbin
# many container images set it, and every process of a test would compile torch and Lightning again
unexport PYTHONDONTWRITEBYTECODE

# what `make wheels` has brought stands in for the network
ifneq ($(wildcard wheels),)
export PIP_NO_INDEX := 1
export PIP_FIND_LINKS := $(CURDIR)/wheels
export UV_NO_INDEX := 1
export UV_FIND_LINKS := $(CURDIR)/wheels
export UV_OFFLINE := 1
endif

# processes of tests at a time, for `make test`, `make killed` and `make fuzz`
N ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup dev run data series real test pages equivalence browser slurm ray killed fuzz gpu wheels search wandb trackers notebooks plugins shells export lowest check bench bench-depth bench-events bench-integer bench-kernels bench-layout bench-peaks bench-levels bench-sweep bench-report bench-seeds bench-scaling bench-training bench-loader docs picture format lock clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

PIP_INSTALL := pip install --quiet --disable-pip-version-check

setup: .venv/installed  ## the virtual environment with what a run needs, from its hashed lock

.venv/installed: requirements/run.lock pyproject.toml
	$(PYTHON) -m venv .venv
	scripts/install run
	$(BIN)/$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

dev: .venv/dev-installed  ## the same environment with what tests, checks and event data need besides

.venv/dev-installed: requirements/base.lock .venv/installed
	scripts/install base
	@touch $@

run: setup  ## five methods, three seeds, on real digits; then the table
	$(BIN)/snn-exp train experiment=quick

data: setup  ## Fashion-MNIST: from Debian's package where root may install it, else fetched; says what it did
	scripts/data

series: setup .series/installed  ## time series of the UCR and UEA archives, in the wheel of aeon, which nothing imports
	$(BIN)/snn-exp data

real: data series  ## one short training on the real Fashion-MNIST, and the real time series; .ci/run too
	$(BIN)/python -m pytest -m real tests/data/test_real.py tests/data/test_real_series.py

test: dev  ## all tests but for those below, which need more than .venv or take minutes
	$(BIN)/python -m pytest -n $(N) --dist worksteal

equivalence: dev .peers/installed  ## our parts against SpikingJelly's, our counts against NeuroBench's; .ci/run too
	PYTHONPATH=.peers $(BIN)/python -m pytest -m equivalence tests/nn/test_equivalence.py

browser: dev .browser/installed  ## the page of a report in a real browser and before axe-core, its tables through LaTeX; .ci/run too
	scripts/need chromium chromium pdflatex texlive-latex-recommended
	PYTHONPATH=$(CURDIR)/.browser $(BIN)/python -m pytest -m browser tests/reporting/test_browser.py

slurm: dev .slurm/installed  ## a multirun on a real Slurm of one node, with jobs killed and preempted; .ci/run too
	scripts/need munged munge slurmctld slurmctld slurmd slurmd sbatch slurm-client
	PYTHONPATH=$(CURDIR)/.slurm $(BIN)/python -m pytest -m slurm tests/sweeps/test_slurm.py

ray: dev .ray/installed  ## a multirun on a Ray cluster of two workers, one of which is killed; .ci/run too
	PYTHONPATH=$(CURDIR)/.ray $(BIN)/python -m pytest -m ray tests/sweeps/test_ray.py

killed: dev  ## runs, sweeps and workers, killed at random moments (SEED=), end as if undisturbed; .ci/run with fewer kills (KILLS=4)
	$(BIN)/python -m pytest -n $(N) --dist worksteal -m killed tests/sweeps/test_killed.py tests/training/test_checkpoints.py tests/runs/test_interrupted.py tests/sweeps/test_launch.py tests/sweeps/test_workers.py

fuzz: dev  ## COUNT generated command lines and COUNT tampered calls (SEED of them, CASE=runs-17 for one again); .ci/run too
	$(BIN)/python -m tests.fuzz --jobs $(N) --count $(or $(COUNT),200) $(if $(SEED),--seed $(SEED)) $(if $(CASE),--case $(CASE))

gpu: dev  ## tests and benchmark of a GPU, into benchmarks/gpu.md; DEVICE=cpu tries both on a CPU, as .ci/run does
	$(BIN)/python benchmarks/gpu.py --device $(or $(DEVICE),cuda) --check
	$(MAKE) .peers/installed
	$(if $(filter cpu,$(DEVICE)),CUDA_VISIBLE_DEVICES=) $(BIN)/python -m pytest -m gpu tests/gpu
	$(if $(filter cpu,$(DEVICE)),,$(BIN)/python -m pytest tests/nn/test_triton.py)
	PYTHONPATH=.peers $(BIN)/python benchmarks/gpu.py $(if $(filter cpu,$(DEVICE)),--device cpu --without-compile) $(if $(ROUNDS),--rounds $(ROUNDS))

wheels: setup  ## what make gpu installs, into wheels/, to bring to a machine without network (requirements/gpu.txt)
	$(BIN)/pip download --quiet --disable-pip-version-check --no-deps --require-hashes --dest wheels -r requirements/gpu.txt

search: dev .search/installed  ## searches with Optuna: every sampler, two processes of which one is killed three times; .ci/run too
	PYTHONPATH=$(CURDIR)/.search $(BIN)/python -m pytest -m search tests/sweeps/test_search.py tests/studies/test_proposals.py tests/test_plugins.py

wandb: dev .dashboard/installed  ## copies and a dashboard in a server that stands in for W&B, and a lost connection; .ci/run too
	PYTHONPATH=$(CURDIR)/.dashboard $(BIN)/python -m pytest -m wandb tests/training/test_wandb_logger.py tests/reporting/test_wandb_dashboard.py

trackers: dev .trackers/installed  ## copies of runs in TensorBoard, MLflow and Trackio, read back with the libraries; .ci/run too
	PYTHONPATH=$(CURDIR):$(CURDIR)/.trackers $(BIN)/python -m pytest -m trackers tests/training/test_trackers.py

notebooks: dev .notebooks/installed  ## the notebooks of examples/, executed in Jupyter (WRITE=1 stores what they print); .ci/run too
	PYTHONPATH=$(CURDIR):$(CURDIR)/.notebooks $(BIN)/python -m pytest -m notebooks tests/test_notebooks.py

plugins: dev  ## packages written by snn-exp new, and a wheel of this one, installed, tested and trained with; .ci/run too
	$(BIN)/python -m pytest -m plugins tests/test_plugins.py tests/test_wheel.py

shells: dev  ## completion typed at bash, zsh and fish in a terminal; .ci/run too
	scripts/need bash bash zsh zsh fish fish
	$(BIN)/python -m pytest -m shells tests/cli/test_completion.py

export: dev .export/installed  ## trained networks as ONNX and NIR, read back by onnxruntime and step by step; .ci/run too
	PYTHONPATH=$(CURDIR)/.export $(BIN)/python -m pytest -m export tests/export/test_export.py

pages: dev  ## the committed pages of all studies, and those of snn-exp evidence, are what the commands write; .ci/run too
	$(BIN)/python -m pytest -m pages tests/studies/test_pages.py

docs: dev .docs/installed  ## the documentation as pages in site/, which need no network; .ci/run too
	PYTHONPATH=$(CURDIR):$(CURDIR)/.docs NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	! grep -rE '(src|<link[^>]* href)="?https?:' site --include=*.html  # nothing is loaded from elsewhere
	@echo "site/index.html; the search needs a server: $(BIN)/python -m http.server --directory site"

picture: setup  ## docs/pictures/accuracy_energy.png of the README, from the committed rows of a study
	$(BIN)/python scripts/picture.py

lowest: .lowest/installed  ## all tests of `make test` with the lowest versions that pyproject.toml promises
	.lowest/bin/python -m pytest -n $(N) --dist worksteal -W ignore::DeprecationWarning -W ignore::PendingDeprecationWarning

.lowest/installed: requirements/lowest.lock pyproject.toml
	$(PYTHON) -m venv .lowest
	.lowest/bin/$(PIP_INSTALL) --require-hashes -r requirements/lowest.lock
	.lowest/bin/$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

.%/installed: requirements/%.lock .venv/installed
	rm -rf $(@D)
	scripts/install $* --target $(@D)
	@touch $@

check: dev  ## lint, format, types, the order of the rooms, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

bench: dev .peers/installed  ## beside SpikingJelly, snnTorch and Norse, into benchmarks/peers.md and results/; prints the table of docs/benchmarks.md
	PYTHONPATH=.peers $(BIN)/python benchmarks/peers.py --rounds $(or $(ROUNDS),15)
	$(BIN)/python benchmarks/peers_table.py

bench-peaks: dev .peers/installed  ## memory of a training step beside SpikingJelly, into benchmarks/peaks.md
	PYTHONPATH=.peers $(BIN)/python benchmarks/peers.py --peaks

bench-depth: setup  ## memory and time of a training step, 8 to 1202 layers, into benchmarks/depth.md
	$(BIN)/python benchmarks/depth.py

bench-events: setup  ## convolutions of spikes beside dense ones, in training and inference, into benchmarks/events.md
	$(BIN)/python benchmarks/events.py

bench-levels: setup  ## what convolutions of levels and linear layers would save by events, into benchmarks/levels.md
	$(BIN)/python benchmarks/levels.py

bench-kernels: setup  ## the fused passes beside the plain path and the convolutions, into benchmarks/kernels.md
	$(BIN)/python benchmarks/kernels.py

bench-integer: setup  ## int8 networks beside float32 ones, batch by batch, into benchmarks/integer.md
	$(BIN)/python benchmarks/integer.py

bench-layout: setup  ## channels-last maps beside contiguous ones, against channels and map, into benchmarks/layout.md
	$(BIN)/python benchmarks/layout.py

bench-scaling: setup  ## a step against depth, T, width and batch, S2NN beside ReLU, memory, into benchmarks/scaling.md
	$(BIN)/python benchmarks/scaling.py

bench-training: setup  ## what each way to train costs: kernels, layout, precision, compile, into benchmarks/training.md
	$(BIN)/python benchmarks/training.py

bench-loader: setup  ## memory of the loader on 100,000 pictures that memory is not to hold, into benchmarks/loader.md
	$(BIN)/python benchmarks/loader.py

bench-sweep: setup  ## what a sweep costs beside its training: 20 runs of two minutes, into benchmarks/sweep.md
	$(BIN)/python benchmarks/sweep.py

bench-report: setup  ## plan and report over 1,000 made-up runs, into benchmarks/report.md
	$(BIN)/python benchmarks/report.py

bench-seeds: setup  ## five seeds that train as one network beside the same one after another, into benchmarks/seeds.md
	$(BIN)/python benchmarks/seeds.py

format: dev  ## put the code in form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

COMPILE := uv pip compile --quiet --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	--universal --python-version 3.11

# what is in the lock of `make dev` already; colorama is there for Windows alone, and the site needs it everywhere
LOCKED = $$(sed -n 's/^\([a-z0-9_.-]*\)==.*/--no-emit-package \1/p' requirements/base.lock)

lock:  ## resolve all locks anew (needs uv)
	$(COMPILE) --group fast -o requirements/setup.lock
	$(COMPILE) --group setup --extra dev --extra events pyproject.toml -o requirements/base.lock
	$(COMPILE) --group setup --constraint requirements/base.lock pyproject.toml -o requirements/run.lock
	$(COMPILE) --resolution lowest-direct --group setup --extra dev --extra events pyproject.toml -o requirements/lowest.lock
	$(COMPILE) --no-deps --group peers -o requirements/peers.lock
	$(COMPILE) --group sources -o requirements/sources.lock
	$(COMPILE) --no-deps --group series -o requirements/series.lock
	$(COMPILE) --group browser -o requirements/browser.lock
	$(COMPILE) --extra slurm --constraint requirements/base.lock $(LOCKED) pyproject.toml -o requirements/slurm.lock
	$(COMPILE) --extra ray --constraint requirements/base.lock $(LOCKED) pyproject.toml -o requirements/ray.lock
	$(COMPILE) --extra search --constraint requirements/base.lock $(LOCKED) pyproject.toml -o requirements/search.lock
	$(COMPILE) --extra dashboard --constraint requirements/base.lock $(LOCKED) pyproject.toml -o requirements/dashboard.lock
	$(COMPILE) --extra tensorboard --extra mlflow --extra trackio --constraint requirements/base.lock $(LOCKED) pyproject.toml -o requirements/trackers.lock
	$(COMPILE) --group notebooks --constraint requirements/base.lock $(LOCKED) -o requirements/notebooks.lock
	$(COMPILE) --group docs --constraint requirements/base.lock $(subst sed -n ',sed -n '/^colorama=/d;,$(LOCKED)) -o requirements/docs.lock
	$(COMPILE) --extra export --group readers --constraint requirements/base.lock $(LOCKED) pyproject.toml -o requirements/export.lock

clean:  ## remove the environment and caches; results in outputs/ stay
	rm -rf .venv .lowest .peers .series .browser .slurm .ray .search .dashboard .export .docs .trackers .notebooks site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
