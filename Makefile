# The commands a person types. Everything happens in a virtual environment of the project's own.
#   make demo    train on handwritten digits
#   make test    run the tests
#   make check   lint, types, layers (what continuous integration runs after the tests)
#   make bench   the table of docs/performance.md (BENCH="--python PATH": an interpreter that has the peers)

PYTHON ?= python3
VENV   ?= .venv
BENCH  ?=
BIN    := $(VENV)/bin

.PHONY: demo test check bench clean

demo: $(VENV)/.installed-plot
	$(BIN)/flambeau train digits

test: $(VENV)/.installed-dev
	FLAMBEAU_ONEDNN=0 $(BIN)/python -m pytest -q tests/ops tests/nn
	$(BIN)/python -m pytest -q

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy flambeau/core flambeau/autograd flambeau/optim
	$(BIN)/lint-imports

bench: $(VENV)/.installed-plot
	$(BIN)/python -m benchmarks $(BENCH)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The stamp says which extra is installed; a changed pyproject.toml installs again.
$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	touch $@
