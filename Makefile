# Needs Python 3.11 or newer and make, nothing else. `make help` lists the targets.
#
#   make book                                     the default profile, end to end
#   make book PROFILE=qwen3-4b RUN=my-run         the paper's scale, in results/my-run
#   make book SET="methods.dpo.learning_rate=1e-3 training.steps=200"
#   make controls ONLY=second_seed                execute what is shown from the reference run
#   make diff RUN_A=tiny RUN_B=my-run             what differs between two finished runs

PROFILE ?= tiny
RUN ?=
SET ?=
# A folder in workflow/profiles; empty: this machine, with its GPUs where the profile needs one.
EXECUTOR ?=

# 3.11 first: a CPU build of torch is offered for it alone.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin

# `make read` takes the whole environment where there is one, else a small one of its own.
READER := $(if $(wildcard $(VENV)/.made-from),$(VENV),.venv-read)
READ_PAGE := $(or $(FINETUNE_GEOMETRY_RESULTS),results)/read/html/index.html
ONLY ?= all
# Two runs for `make diff`.
RUN_A ?=
RUN_B ?=
PIPS_REASON := sh -c 'sed -n "s/.*ERROR: //p" "$$0" | tail -n 1'

# The environment is stale when the packages asked for have changed (pyproject.toml above the tools'
# settings, constraints.txt), or when the clone has moved.
MADE_FROM := $(VENV)/.made-from
WANTED := $(shell sed '/^\[tool.ruff\]/q' pyproject.toml | cat - constraints.txt | cksum) $(CURDIR)

.DEFAULT_GOAL := help
.PHONY: help setup read slides handout pdf offer book prefetch controls released diff light test models reference ship benchmark mutants clean

help:  ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## Make .venv, or bring it up to date
	@if [ "$$(cat $(MADE_FROM) 2>/dev/null)" != "$(WANTED)" ]; then \
		test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer: PATH: install it, or set PYTHON="; exit 1; }; \
		echo "Setting up $(VENV): 2 GB of packages, some minutes when they must be downloaded (log: $(VENV)/install.log)"; \
		if ! test -x $(BIN)/python || { test -f $(MADE_FROM) && \
			test "$$(cut -d' ' -f3- $(MADE_FROM))" != "$(CURDIR)"; }; then \
			$(PYTHON) -m venv --clear $(VENV) || exit 1; fi; \
		$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[dev]' \
			> $(VENV)/install.log 2>&1 || { echo "error: $$($(PIPS_REASON) $(VENV)/install.log): $(VENV)/install.log"; exit 1; }; \
		echo "$(WANTED)" > $(MADE_FROM); \
		echo "$(VENV) is ready"; \
	fi

# The packages of the extra `book` alone: to render what is executed needs no other.
.venv-read/.made-from: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer: PATH: install it, or set PYTHON="; exit 1; }
	@echo "Setting up .venv-read: 0.2 GB of packages (log: .venv-read/install.log)"
	@$(PYTHON) -m venv --clear .venv-read
	@.venv-read/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["book"], sep="\n")' \
		> .venv-read/book.txt
	@.venv-read/bin/python -m pip install --disable-pip-version-check --no-compile --constraint constraints.txt \
		--requirement .venv-read/book.txt > .venv-read/install.log 2>&1 \
		|| { echo "error: $$($(PIPS_REASON) .venv-read/install.log): .venv-read/install.log"; exit 1; }
	@touch $@

read: $(if $(filter .venv-read,$(READER)),.venv-read/.made-from)  ## Render the reference run, in two minutes and without torch
	@$(READER)/bin/python workflow/read_reference.py

# Made from what was executed, as `make read` is: with its small environment, too.
slides: $(if $(filter .venv-read,$(READER)),.venv-read/.made-from)  ## Slides of every chapter, of the reference run or of RUN
	@$(READER)/bin/python workflow/slides.py "$(RUN)"

handout: $(if $(filter .venv-read,$(READER)),.venv-read/.made-from)  ## Two pages to print: the six losses and the definitions
	@$(READER)/bin/python workflow/handout.py

# The small environment gets the packages of the extra `pdf` when a PDF is first asked for.
.venv-read/.with-pdf: .venv-read/.made-from
	@.venv-read/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["pdf"], sep="\n")' \
		> .venv-read/pdf.txt
	@.venv-read/bin/python -m pip install --disable-pip-version-check --no-compile --constraint constraints.txt \
		--requirement .venv-read/pdf.txt >> .venv-read/install.log 2>&1 \
		|| { echo "error: $$($(PIPS_REASON) .venv-read/install.log): .venv-read/install.log"; exit 1; }
	@touch $@

pdf: $(if $(filter .venv-read,$(READER)),.venv-read/.with-pdf)  ## The whole book as one PDF, of the reference run or of RUN (needs a Chromium)
	@$(READER)/bin/python workflow/pdf.py "$(RUN)"

offer:
	@if test -f "$(READ_PAGE)"; then echo "Read the reference run meanwhile: $(abspath $(READ_PAGE))"; \
		else echo "Read the reference run meanwhile: make read (in another terminal)"; fi

book: offer setup  ## Execute the notebooks of PROFILE and render the book
	@$(BIN)/python workflow/run.py --profile "$(PROFILE)" --run "$(RUN)" --set "$(SET)" --executor "$(EXECUTOR)"

prefetch: setup  ## Fetch the models and data sets of PROFILE from the hub
	@$(BIN)/finetune-geometry prefetch --profile "$(PROFILE)" --run "$(RUN)" --set "$(SET)"

controls: setup  ## Execute what the book shows from the reference run: all of it, or ONLY="NAME ..."
	@$(BIN)/python workflow/run.py --profile "$(PROFILE)" --run "$(RUN)" --set "$(SET)" --executor "$(EXECUTOR)" --execute "$(ONLY)"

# Executed anew each time: the table of folders may have been corrected.
released: setup  ## Fetch the paper's own adapters once, and hold them against the ledger
	@$(BIN)/finetune-geometry prefetch --profile "$(PROFILE)" --run "$(RUN)" --set "$(SET)" --released
	@$(BIN)/python workflow/run.py --profile "$(PROFILE)" --run "$(RUN)" --set "$(SET)" --executor "$(EXECUTOR)" \
		--until evaluation_released_weights -- --forcerun evaluation_released_weights
	@$(BIN)/python workflow/show_released.py "$(or $(RUN),$(PROFILE))"

diff: setup  ## Put the differences of two finished runs on one page: RUN_A=... RUN_B=...
	@$(BIN)/finetune-geometry diff "$(RUN_A)" "$(RUN_B)"

light:  ## Try the light install: two adapters compared in a new environment, and its size
	@PYTHON="$(PYTHON)" workflow/try_light_install.sh

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

reference: controls  ## Make this run the reference that ships: all of it, or the chapters ONLY="NAME ..."
	$(BIN)/python workflow/reference.py --profile "$(PROFILE)" --run "$(RUN)" --only "$(ONLY)"

ship: setup  ## Put adapters and tables of a run on another base (PROFILE) into models/, or ONLY=geometry
	@$(BIN)/python workflow/ship_run.py --profile "$(PROFILE)" --run "$(RUN)" --set "$(SET)" --only "$(ONLY)"

clean:  ## Remove all runs and caches; the models and .venv stay
	rm -rf results mutants .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests workflow book -name __pycache__ -prune -exec rm -rf {} +
