PYTHON ?= python3
BIN := .venv/bin
COMMA := ,

.PHONY: setup demo test lint bench clean

setup: .venv/dev

# CI tests the bindings of every framework; elsewhere their tests are skipped unless the framework is there.
TESTED := dev$(if $(CI),$(COMMA)frameworks)

test: lint .venv/$(TESTED)
	$(BIN)/python -m pytest

lint: .venv/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check --quiet
	$(BIN)/mypy

demo: .venv/demo
	$(BIN)/python examples/digits_cnn.py

bench: .venv/dev
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

.venv/%: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	touch $@
