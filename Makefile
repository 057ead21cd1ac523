# `make demo` and `make test` need Python 3.11 or newer and a package registry, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check
CLEAN := build/clean-venv
OLDEST := build/oldest-venv

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test sweep oldest check lint types package train eval format reference clean

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## let a team of the bundled model solve a problem, live on the terminal
	@$(BIN)/hogwild run --pace 6

test: $(VENV)/.installed-test ## run the tests
	$(BIN)/python -m pytest -n 2 --dist worksteal

sweep: $(VENV)/.installed-test ## run the longer sweeps that `make test` leaves out
	$(BIN)/python -m pytest -m sweep --timeout=1800 -n 2 --dist worksteal

oldest: pyproject.toml ## run the tests with the oldest torch and transformers that pyproject.toml admits
	$(PYTHON) -m venv --clear $(OLDEST)
	$(OLDEST)/bin/python -m pip install --disable-pip-version-check -e '.[test]' \
		$$(sed -nE 's/^ *"(torch|transformers)>=([0-9.]+),.*/\1~=\2.0/p' $<)
	$(OLDEST)/bin/python -m pytest -n 2 --dist worksteal

check: lint types package ## ruff, mypy, and the built package in a clean venv

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.installed-dev
	$(BIN)/mypy

package: $(VENV)/.installed-dev
	rm -rf build/dist $(CLEAN)
	$(BIN)/python -m build --outdir build/dist
	$(BIN)/python -m venv $(CLEAN)
	$(CLEAN)/bin/python -m pip install --disable-pip-version-check build/dist/*.whl
	$(CLEAN)/bin/python -I tests/packaging/installed.py
	$(CLEAN)/bin/hogwild --help
	$(CLEAN)/bin/hogwild run --quiet

train: $(VENV)/.installed ## train the bundled model anew, into build/bundled
	$(BIN)/python -m hogwild_agents.bundled.train --out build/bundled

eval: $(VENV)/.installed ## measure the bundled model on held-out problems
	$(BIN)/hogwild eval

format: $(VENV)/.installed-dev ## put the source in the form that `make check` asks for
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

reference: ## write docs/reference.md anew, from the docstrings
	$(PYTHON) -m docs.write_reference

clean: ## remove the venv and everything built
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The stamps: an install is repeated only when pyproject.toml has changed.
$(VENV)/.created:
	$(PYTHON) -m venv --clear $(VENV)
	touch $@

$(VENV)/.installed: pyproject.toml | $(VENV)/.created
	$(INSTALL) -e .
	touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/.created
	$(INSTALL) -e '.[test]'
	touch $(VENV)/.installed $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/.created
	$(INSTALL) -e '.[dev]'
	touch $(VENV)/.installed $(VENV)/.installed-test $@
