# Two commands do everything: `make reports` and `make test`. `make help` lists the rest.
PYTHON   ?= python3
VENV     ?= .venv
BIN      := $(VENV)/bin
MANIFEST ?= reports/workbook.toml
export UV_CUSTOM_COMPILE_COMMAND = make lock

.DEFAULT_GOAL := help
.PHONY: help env reports test lab lint format bench bench-scale notebooks spark lock clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

env: $(VENV)/.ready  ## Create .venv with the locked packages (checked against their hashes)

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 14) else f"crmlab needs Python 3.11 to 3.13, {sys.executable} is {v[0]}.{v[1]}: make PYTHON=python3.12 …")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the locked packages into $(VENV) (a few minutes the first time) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@touch $@

reports: $(VENV)/.ready  ## Build the reports of MANIFEST (default: reports/workbook.toml)
	@$(BIN)/crmlab build $(MANIFEST)

test: $(VENV)/.ready  ## Run the whole test suite
	@$(BIN)/python -m pytest

lab: $(VENV)/.ready  ## Open the workbook in JupyterLab
	@$(BIN)/jupyter lab notebooks

lint: $(VENV)/.ready  ## Check code, notebooks and docstrings
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python -m numpydoc.hooks.validate_docstrings crmlab/*.py crmlab/*/*.py

format: $(VENV)/.ready  ## Rewrite code and notebooks in the project's style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.ready  ## Time crmlab and its peers side by side
	@$(BIN)/python -m tests.benchmarks
	@$(BIN)/python -m tests.benchmarks.lifecycle
	@$(BIN)/python -m tests.benchmarks.loyalty
	@$(BIN)/python -m tests.benchmarks.market
	@$(BIN)/python -m tests.benchmarks.reports

bench-scale: $(VENV)/.ready  ## Time the way from 10⁸ purchases to scores (2 GB of disk, 8 GB of memory, minutes)
	@$(BIN)/python -m tests.benchmarks.scale

notebooks: $(VENV)/.ready  ## Run the notebooks and store their outputs
	@$(BIN)/python tests/store_outputs.py

spark: $(VENV)/.ready  ## Add Spark to .venv (450 MB; it needs Java 17)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/requirements-spark.lock

EXTRAS  := $(foreach extra,cluster data identity lab pdf postgres rda s3 xlsx,--extra $(extra))
COMPILE := --generate-hashes --no-emit-index-url --no-emit-find-links --upgrade
lock: $(VENV)/.ready  ## Compile the lock files from pyproject.toml
	@$(BIN)/uv pip compile pyproject.toml --quiet $(EXTRAS) --group dev --universal \
	    --python-version 3.11 $(COMPILE) -o requirements.lock
	@echo 'pyspark>=3.5,<4.1' | $(BIN)/uv pip compile - --quiet --universal --python-version 3.11 $(COMPILE) -o tests/requirements-spark.lock

clean:  ## Remove built reports and caches, keep the environment
	@rm -rf reports/site .pytest_cache .ruff_cache .hypothesis
