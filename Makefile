# Everything runs in .venv with the versions that requirements.txt pins; needs Python 3.11-3.13, git and make.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -ec
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first interpreter that runs and is recent enough; `make PYTHON=... setup` names another.
SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do $$p -c '$(SUITABLE)' 2>/dev/null && echo $$p && break; done)
UV_VERSION := 0.13.8
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TEACH_STAMP := $(VENV)/.installed-teach
SEEDS ?= 0 1 2
# Where shells and notebooks find no display; keeps Jupyter's own warnings out of logs.
export MPLBACKEND ?= Agg
export PYDEVD_DISABLE_FILE_VALIDATION := 1

.PHONY: help setup teach book generated test lint unit notebooks-test pages-test notebooks quick full confirm baselines small-cells awkward dragged-cut gpu-queue gpu-status benchmark fuzz mutants lock repository clean

help: ## list every target
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv and install the pinned set (a second call installs nothing)

$(STAMP): requirements.txt lib/pyproject.toml
	@$(or $(PYTHON),false) -c '$(SUITABLE)' || { echo "Python 3.11, 3.12 or 3.13 is needed; name one: make PYTHON=python3.12 setup"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --constraint requirements.txt --editable './lib[book,test]'
	touch $@

teach: $(TEACH_STAMP) ## add what teachers need to grade assignments (nbgrader)

$(TEACH_STAMP): $(STAMP)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --constraint requirements.txt --editable './lib[book,test,teach]'
	touch $@

generated: $(STAMP)
	$(BIN)/python -m compactvision scorecard --pages book/generated
	$(BIN)/python -m compactvision.in_browser book/generated/try-it.html
	$(BIN)/python -m compactvision.awkward --page book/generated/awkward-networks.md

book: generated ## build the whole book from the stored outputs, warnings as errors
	$(BIN)/jupyter-book build . --warningiserror --keep-going
	@echo "Open _build/html/index.html"

test: lint unit notebooks-test book pages-test ## style, unit tests, notebooks, book build, pages in a browser

lint: $(STAMP) ## style of the code and the floors' import contract
	$(BIN)/ruff check lib tests
	$(BIN)/ruff format --check lib tests
	$(BIN)/lint-imports --config lib/pyproject.toml

unit: $(STAMP) ## unit tests with coverage
	$(BIN)/pytest tests --ignore=tests/book -n 2 --dist loadfile --cov=compactvision --cov-report=term:skip-covered --cov-fail-under=90

notebooks-test: $(STAMP) ## every notebook, executed and checked (nbval)
	COMPACTVISION_STRICT=1 $(BIN)/pytest -c tests/pytest.ini --rootdir=. --nbval-lax --nbval-current-env --nbval-cell-timeout=900 --timeout=900 -p no:cacheprovider --durations=5 notebooks

pages-test: generated ## the built pages, statically and in headless Chromium
	$(BIN)/pytest tests/book

notebooks: $(STAMP) ## execute the notebooks again and store their outputs (SLUG=... for one)
	$(BIN)/python -m compactvision execute $(SLUG)

quick: $(STAMP) ## make the quick record of a chapter: make quick SLUG=foundations
	$(BIN)/python -m compactvision run $(or $(SLUG),$(error name the chapter: make quick SLUG=foundations)) --profile quick --seeds $(SEEDS) --save

full: $(STAMP) ## make the full record of a chapter: make full SLUG=...
	$(BIN)/python -m compactvision run $(or $(SLUG),$(error name the chapter: make full SLUG=foundations)) --profile full --seeds $(SEEDS) --save

confirm: $(STAMP) ## run one recorded seed with today's code and compare (SLUG=... for one; PROFILE=full)
	$(BIN)/python -m compactvision confirm $(SLUG) --profile $(or $(PROFILE),quick)

baselines: $(STAMP) ## train the networks that the chapters cut (NAME=... for one)
	$(BIN)/python -m compactvision.baselines $(NAME)

small-cells: $(STAMP) ## train all small cells that the part Search is judged by (about an hour)
	$(BIN)/python -m compactvision.small_cells

awkward: $(STAMP) ## cut ready-made networks, store what came of it; WORK=folder goes on (needs timm: .venv/bin/uv pip install timm)
	$(BIN)/python -m compactvision.awkward $(if $(WORK),--work $(WORK)) $(if $(PROCESSES),--processes $(PROCESSES))

dragged-cut: $(STAMP) ## compute what the picture "The cut you can drag" shows (a quarter of an hour)
	$(BIN)/python -m compactvision.dragged_cut book/_static/dragged-cut-data.js

# A machine with a GPU may have no .venv: its own Python does, with the package read from lib.
QUEUE := PYTHONPATH=lib $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m compactvision queue
PLACES := $(if $(OUT),--out $(OUT)) $(if $(WORK),--work $(WORK)) $(if $(ONLY),--only $(ONLY))

gpu-queue: ## train what waits for a GPU: gpu-queue OUT=folder MINUTES=9 (also WORK, ONLY, PROCESSES; DRY=1 tries it on a CPU)
	$(QUEUE) run $(if $(DRY),--dry,--minutes $(or $(MINUTES),9)) $(if $(PROCESSES),--processes $(PROCESSES)) $(PLACES)

gpu-status: ## what is done of that, what is left, and what it would take
	$(QUEUE) status $(PLACES)

benchmark: $(STAMP) ## timings side by side (never part of the tests)
	for script in tests/benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script; done

fuzz: $(STAMP) ## call all public functions with bad arguments (SEED, ONLY=part of a name, COUNT calls of each; LIST=file)
	PYTHONPATH=lib:tests $(BIN)/python -m fuzz --seed $(or $(SEED),0) --count $(or $(COUNT),16) --only "$(ONLY)" $(if $(LIST),--list $(LIST))

mutants: $(STAMP) ## break lines of the methods and see which tests notice (SEED, ONLY=part of a path, COUNT mutants, PROCESSES)
	PYTHONPATH=lib:tests $(BIN)/python -m mutants --seed $(or $(SEED),0) --count $(or $(COUNT),200) --only "$(ONLY)" --processes $(or $(PROCESSES),2)

lock: $(STAMP) ## resolve requirements.txt anew from lib/pyproject.toml
	printf 'torch==2.11.0\ntorchvision==0.26.0\n' > $(VENV)/pins.txt
	cd lib && ../$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-emit-index-url --no-emit-find-links \
		--no-header --no-annotate --constraint ../$(VENV)/pins.txt pyproject.toml --output-file ../requirements.txt

repository: $(STAMP) ## set the repository's address everywhere: make repository URL=https://github.com/you/book
	$(BIN)/python -m compactvision repository $(or $(URL),$(error name the address: make repository URL=https://github.com/you/book))

clean: ## remove everything that make builds, the environment included
	rm -rf _build book/generated $(VENV)
