# What a contributor types. `make` alone lists the targets.
#
# Python 3.11 or newer and make are enough: everything else goes into .venv, which is made anew
# if it came from another place. Another interpreter: make setup PYTHON=/path/to/python3.12

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint types docs unit bench pins clean FORCE

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.ready
TORCH := torch==2.13.0

NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python $(NEW_ENOUGH) 2>/dev/null && echo $$python && break; done)

# The stamp holds the place it was made for, so a copied checkout does not trust a copied .venv.
STALE := $(shell [ "$$(cat $(STAMP) 2>/dev/null)" = "$$(pwd -P)" ] \
	&& $(PY) $(NEW_ENOUGH) 2>/dev/null || echo FORCE)

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(STAMP) ## make .venv with pinned versions; instant when nothing changed

$(STAMP): pyproject.toml constraints.txt $(STALE)
	@[ -n "$(PYTHON)" ] && $(PYTHON) $(NEW_ENOUGH) || { \
		echo "symport needs Python 3.11 or newer; found: $$($(or $(PYTHON),python3) --version 2>&1)."; \
		echo "Install one, or name it: make setup PYTHON=/path/to/python3.12"; exit 1; } >&2
	@$(VENV)/bin/pip --version 2>/dev/null | grep -qF "$$(pwd -P)/$(VENV)/" && $(PY) $(NEW_ENOUGH) || { \
		if [ -L $(VENV) ]; then rm $(VENV); fi; \
		echo "making $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv --clear $(VENV); }
	$(PY) -m pip install --quiet --constraint constraints.txt '$(TORCH)'
	$(PY) -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@pwd -P > $@

demo: $(STAMP) ## transfer a trajectory on the built-in digits, in seconds
	$(PY) -m symport_recipes.demo

test: lint types docs unit ## all checks but the slow tests; this is what CI runs

test-all: MARKS := -m ''
test-all: test ## the same, with the slow tests

lint: $(STAMP)
	$(PY) -m ruff check
	$(PY) -m ruff format --check

types: $(STAMP)
	$(PY) -m pyright --pythonpath $(PY)
	$(PY) -m pyright --pythonpath $(PY) --project tests

docs: $(STAMP) ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet

unit: $(STAMP)
	$(PY) -m pytest --cov --cov-report= $(MARKS)  # prints the total; `coverage report -m` lists the lines

bench: $(STAMP) ## run every program in benchmarks/
	@set -e; for program in $$(grep -l '^if __name__ ==' benchmarks/*.py); do \
		echo "== $$program"; $(PY) "$$program"; done

pins: $(STAMP) ## write the versions in .venv to constraints.txt
	@{ sed -n '/^#/p' constraints.txt; \
		$(PY) -m pip freeze --exclude-editable | grep -v -E '^(nvidia|triton|cuda)' \
		| sed 's/+.*//'; } > constraints.new
	@mv constraints.new constraints.txt

clean: ## remove what was built; .venv and runs/ stay
	rm -rf build dist site .pytest_cache .ruff_cache .hypothesis .coverage
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

FORCE:
