# The whole project on a fresh machine: `make bench` (the main job) and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: bench test test-reference lint types check clean

bench: .venv/installed
	$(BIN)/oodkit bench --detector rose-ekfac,elbo --model vae

test: .venv/installed-dev
	$(BIN)/python -m pytest

test-reference: .venv/installed-dev  ## the paper's figures from its own weights: needs the reference folder
	$(BIN)/python -m pytest -m slow

lint: .venv/installed-dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: .venv/installed-dev
	$(BIN)/mypy

check: test lint types

.venv/bin/python:
	$(PYTHON) -m venv .venv

# constraints.txt holds the versions that the tests ran with.
.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@ .venv/installed

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
