# Two commands matter: `make demo` and `make test`. Both set up .venv first, once.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
# The oldest that we support comes first: it is the one that constraints.txt was tested with.
PYTHONS := $(PYTHON) python3.11 python3.12 python3.13 python3.14 python3

.DEFAULT_GOAL := help
.PHONY: help demo test lint format interface setup clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## tune and train on the embedded digits, with no download
	@$(BIN)/surefoot tune digits

test: lint ## run every check and every test
	@$(BIN)/python -m pytest -n 2

lint: $(READY) ## check style, format, types and who imports whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/basedpyright --pythonpath $(BIN)/python
	@$(BIN)/lint-imports

format: $(READY) ## mend style and format where a program can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

interface: $(READY) ## write down the public names and settings anew, after a change on purpose
	@$(BIN)/python tests/house/test_names.py

setup: $(READY) ## set up .venv; the other commands do it when it is needed

clean: ## remove .venv and all caches; runs/ stays
	@rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# torch comes first and alone: the constraint then keeps whatever build of it the machine's pip is set up to take.
$(READY): pyproject.toml constraints.txt
	@if ! $(BIN)/python -c "" 2>/dev/null; then \
	  for each in $(PYTHONS); do \
	    if "$$each" -c "import sys, ensurepip; sys.exit(sys.version_info < (3, 11))" 2>/dev/null; then found=$$each; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "No usable Python: Surefoot needs Python 3.11 or newer, with its venv module." >&2; \
	    echo "Install one (some systems package venv separately), or name it: make $(MAKECMDGOALS) PYTHON=PATH." >&2; exit 1; \
	  fi; \
	  echo "Setting up $(VENV) with $$($$found --version); this happens once and takes a few minutes."; \
	  "$$found" -m venv --clear $(VENV); \
	fi
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $$(grep '^torch==' constraints.txt)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@
