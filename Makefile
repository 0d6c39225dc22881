# mecsim: `make help` lists what there is. PYTHON=python3.12 chooses another interpreter.
PYTHON   ?= python3
JOBS     ?= 2
SCENARIO ?= vgg16_4es
ARGS     ?=

# Trainings and batches would take hours without the compiler, and nothing of theirs is compiled.
SLOW_WITHOUT := $(addprefix --ignore=tests/,rl learning study paper docs)

# Neighbours share fixtures and caches: each process takes tests in their order, and steals at the end.
PARALLEL := -n $(JOBS) --dist worksteal
PATIENT  := $(PARALLEL) -o faulthandler_timeout=1800

VENV := .venv
BIN  := $(VENV)/bin
RUN  := $(VENV)/.run-installed
DEV  := $(VENV)/.dev-installed
BARE := .venv-bare
WARM := $(VENV)/.kernels-compiled
# Modules are compiled when they are imported: most of those installed never are.
PIP  := -m pip --disable-pip-version-check -qq install --no-compile --constraint constraints.txt

# Where it is set, each of the many processes of a test run would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run testbed test test-bare coverage verify policies calibration testbed-results bench lint format pins clean distclean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-15s %s\n", $$1, $$2}'

run: $(WARM) ## simulate a scenario (SCENARIO=..., ARGS=...)
	$(BIN)/mecsim run $(SCENARIO) $(ARGS)

testbed: $(DEV) $(WARM) ## run a scenario on real processes, and predict it (SCENARIO=..., ARGS=...)
	$(BIN)/mecsim testbed $(if $(filter command line,$(origin SCENARIO)),$(SCENARIO),testbed) $(ARGS)

test: $(DEV) $(WARM) ## run the tests, except slow ones and benchmarks (ARGS=...)
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

test-bare: $(BARE)/.installed ## run the tests that need no extra, in an install without extras (ARGS=...)
	$(BARE)/bin/python -m pytest -o addopts= -ra -m "not slow and not benchmark" $(ARGS)

coverage: $(DEV) ## run the tests and print the lines and branches that they miss (ARGS=...)
	$(BIN)/python -m pytest $(PARALLEL) --cov --cov-report=term $(ARGS)

verify: $(DEV) ## run slow and property-based tests, all with the compiler off, and the known answers
	MECSIM_THOROUGH=1 $(BIN)/python -m pytest $(PATIENT) -m "(slow or hypothesis) and not benchmark" $(ARGS)
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest $(PATIENT) $(SLOW_WITHOUT) $(ARGS)
	$(BIN)/mecsim verify

policies: $(DEV) ## train the shipped policies again (some minutes)
	for scenario in vgg16_4es vgg16_loaded; do for learner in mtl-a3c a3c dqn; do \
	  $(BIN)/mecsim train scenarios/$$scenario.yaml --scheduler $$learner --serial \
	    --out results/policies/$$scenario-$$learner.safetensors || exit; done; done

calibration: $(WARM) ## search the numbers that the paper leaves out again (some minutes)
	$(BIN)/python -m mecsim.paper.calibration

testbed-results: $(DEV) ## measure and predict runs on the testbed; leave the machine alone (half an hour, ARGS=...)
	$(BIN)/python -m mecsim.testbed.evaluation $(ARGS)

bench: $(DEV) ## run the benchmarks, one at a time
	$(BIN)/python -m pytest -m benchmark --benchmark-enable $(ARGS)

lint: $(DEV) ## ruff, mypy, import-linter
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV) ## format the code and fix lint errors
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

pins: ## resolve the requirements again and rewrite constraints.txt (torch stays as it is)
	@echo "Resolving all requirements in a new environment; this takes some minutes ..."
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	$(PYTHON) -m venv "$$dir/venv" && grep '^torch==' constraints.txt > "$$dir/torch" && \
	"$$dir/venv/bin/python" -m pip -qq install -c "$$dir/torch" -e '.[dev]' && \
	"$$dir/venv/bin/python" -m pip freeze --all --exclude pip --exclude-editable > "$$dir/pins" && \
	{ grep '^#' constraints.txt; sed 's/+cpu$$//' "$$dir/pins"; } > "$$dir/new" && \
	cp "$$dir/new" constraints.txt

clean: ## remove caches and build outputs
	rm -rf build dist htmlcov .coverage* .benchmarks .hypothesis .*_cache
	find mecsim schedulers tests -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f $(WARM)

distclean: clean ## also remove the virtual environments
	rm -rf $(VENV) $(BARE)

# Both stamps stand for an installation; they age when the requirements change.
$(RUN): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing mecsim into $(VENV) (once; about half a minute) ..."
	@$(BIN)/python $(PIP) --editable .
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing mecsim, PyTorch and the developers' tools into $(VENV) (once; a few minutes) ..."
	@$(BIN)/python $(PIP) --editable '.[dev]'
	@touch $(RUN) $@

# Users without extras have no more than this. The wheel is built, not installed in editable mode.
$(BARE)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing mecsim without extras into $(BARE) (once; about half a minute) ..."
	@$(BIN)/python -m venv --clear $(BARE)
	@$(BARE)/bin/python $(PIP) . pytest hypothesis
	@touch $@

# Compile all that the common commands need, so that none of them compiles.
$(WARM): $(wildcard mecsim/kernels/*.py mecsim/model/*.py mecsim/scheduler/features.py mecsim/support/jit.py mecsim/support/portable_math.py) | $(RUN)
	@$(BIN)/python -m mecsim.simulation.warm_up
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "mecsim needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." \
	       "Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Creating the virtual environment $(VENV) (once) ..."
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
