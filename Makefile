# Needs Python 3.11 or newer and make, nothing else. `make help` lists the targets.
#
#   make book                                     the default profile, end to end
#   make book PROFILE=qwen3-4b RUN=my-run         the paper's scale, in results/my-run
#   make book SET="methods.dpo.learning_rate=1e-3 training.steps=200"

PROFILE ?= tiny
RUN ?=
SET ?=
# A folder in workflow/profiles.
EXECUTOR ?= local

# 3.11 first: a CPU build of torch is offered for it alone.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin

# The environment is stale when the packages asked for have changed (pyproject.toml above the tools'
# settings, constraints.txt), or when the clone has moved.
MADE_FROM := $(VENV)/.made-from
WANTED := $(shell sed '/^\[tool.ruff\]/q' pyproject.toml | cat - constraints.txt | cksum) $(CURDIR)

.DEFAULT_GOAL := help
.PHONY: help setup book test models reference benchmark mutants clean

help:  ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## Make .venv, or bring it up to date
	@if [ "$$(cat $(MADE_FROM) 2>/dev/null)" != "$(WANTED)" ]; then \
		test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer: PATH: install it, or set PYTHON="; exit 1; }; \
		echo "Setting up $(VENV) (2 GB of packages, some minutes when they must be downloaded)"; \
		if ! test -x $(BIN)/python || { test -f $(MADE_FROM) && \
			test "$$(cut -d' ' -f3- $(MADE_FROM))" != "$(CURDIR)"; }; then \
			$(PYTHON) -m venv --clear $(VENV) || exit 1; fi; \
		$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[dev]' && \
		echo "$(WANTED)" > $(MADE_FROM); \
	fi

book: setup  ## Execute the notebooks of PROFILE and render the book
	@$(BIN)/python workflow/run.py --profile "$(PROFILE)" --run "$(RUN)" --set "$(SET)" --executor "$(EXECUTOR)"

test: setup  ## Style, types, tests, every notebook in the smoke profile, the strict book
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

benchmark: setup  ## The side-by-side benchmarks
	$(BIN)/pytest tests/benchmarks --benchmark-only

models: setup  ## Train the shipped student and teacher again from nothing
	mkdir -p results
	$(BIN)/jupytext --quiet --to ipynb --output - notebooks/ingredients/base_model.py \
		| $(BIN)/papermill - results/models.ipynb -p retrain True -p output results/models
	for role in student teacher; do mkdir -p models/$$role && cp results/models/$$role/* models/$$role/; done
	rm -r results/models

# The tool (see pyproject.toml) tests a changed copy, ./mutants; a later run goes on where this one was.
mutants: setup  ## Change lines of what is not mathematics: which changes does no test see? (hours)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt mutmut==3.8.1
	mkdir -p mutants/src
	OMP_NUM_THREADS=1 PYTHONPATH="$(CURDIR)/mutants/src" $(BIN)/mutmut run --max-children 1
	$(BIN)/mutmut results

reference: book  ## Put the executed notebooks of this run beside their sources
	$(BIN)/python workflow/reference.py --profile "$(PROFILE)" --run "$(RUN)"

clean:  ## Remove all runs and caches; the models and .venv stay
	rm -rf results mutants .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests workflow book -name __pycache__ -prune -exec rm -rf {} +
