# The whole project on a fresh machine: `make bench` (the main job) and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: bench paper-cpu speed test test-long test-reference lint types check docs clean

bench: .venv/installed
	$(BIN)/oodkit bench --detector rose-ekfac,elbo --model vae

test: .venv/installed-dev
	$(BIN)/python -m pytest

test-long: .venv/installed-dev  ## 200 kills, 2,000 damaged files, 50,000 images: a quarter of an hour
	$(BIN)/python -m pytest -m long

test-reference: .venv/installed-dev  ## the paper's figures from its own weights: needs the reference folder
	$(BIN)/python -m pytest -m slow

paper-cpu: .venv/installed-dev  ## what two cores can do of the paper in half an hour: needs the reference folder
	$(BIN)/python benchmarks/paper_cpu.py

speed: .venv/installed-dev  ## how fast, as ratios in one run; wants an idle machine
	$(BIN)/python benchmarks/speed.py

lint: .venv/installed-dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: .venv/installed-dev
	$(BIN)/mypy

check: test lint types

docs: .venv/installed-docs  ## build/site/index.html; a link that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

.venv/bin/python:
	$(PYTHON) -m venv .venv

# constraints.txt holds the versions that the tests ran with.
.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@ .venv/installed

.venv/installed-docs: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@ .venv/installed

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
