PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONFIG ?= configs/digits.py
WORKDIR ?= runs/digits

.DEFAULT_GOAL := study
.PHONY: help study claims test test-slow test-cluster lint format lock clean

help:  ## List the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 16

study: $(VENV)/.ready  ## Train, measure and report the digits study.
	$(BIN)/python -m jaxreg study --config=$(CONFIG) --workdir=$(WORKDIR)
	@[ "$(CONFIG)" != configs/digits.py ] || echo "what is inconclusive here: this study is too small for it; make claims trains a larger one"

claims: $(VENV)/.ready  ## The digits study that is large enough to decide claims: about five minutes.
	$(BIN)/python -m jaxreg study --config=configs/digits.py:claims --workdir=runs/digits-claims

test: $(VENV)/.ready  ## Run the test suite.
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not cluster and not slow" $(ARGS)

test-slow: $(VENV)/.ready  ## Run the tests that take many seconds: small studies that meet every option among them.
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow $(ARGS)

test-cluster: $(VENV)/.ready  ## Kill processes, run jobs of many, and on a real Slurm where one is installed.
	$(BIN)/python -m pytest -m cluster -rs $(ARGS)

lint: $(VENV)/.ready  ## Check format, style and types.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.ready  ## Format the code and sort its imports.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(VENV)/.ready  ## Resolve the newest versions for every supported Python.
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --universal --upgrade --python-version 3.11 --extra dev \
	  --no-emit-index-url --no-header --no-annotate --quiet pyproject.toml -o requirements.lock

# The marker is written last, so an interrupted installation is repeated.
$(VENV)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v < (3, 11) and "jaxreg needs Python 3.11 or later, got %d.%d; say make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps -r requirements.lock
	$(BIN)/python -m compileall -q -q -j 0 $(VENV)/lib || true  # on every core; pip would take one, and some files are templates
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

clean:  ## Remove the environment and caches, never a study.
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build *.egg-info
