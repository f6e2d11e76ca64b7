# The whole project on a fresh machine: `make bench` (the main job) and `make test`.
PYTHON ?= python3
BIN := .venv/bin
# What needs none of the packages that only tests use. (safetensors 0.4.5 cannot write what test_hostile.py is made of.)
MINIMUM := $(patsubst %, tests/test_%.py, artifact bench calibration classifier cli datasets density \
	density_detectors explain full fuzz gradients images input_complexity kit layer_gradient likelihood \
	likelihood_ratio likelihood_regret limits memory metrics perturbations pictures registry report_html report_lines \
	report_paper report_plots report_tables rnd rose sklearn vae)

.PHONY: bench paper-cpu speed test test-long test-minimum test-locked test-reference coverage lock audit lint types check docs clean

bench: .venv/installed
	$(BIN)/oodkit bench --detector rose-ekfac,elbo --model vae

test: .venv/installed-dev
	$(BIN)/python -m pytest

test-long: .venv/installed-dev  ## 200 kills, 2,000 damaged files, 50,000 images: minutes
	$(BIN)/python -m pytest -m long

test-minimum: .venv-minimum/installed  ## with the oldest versions that pyproject.toml allows
	.venv-minimum/bin/python -m pytest $(MINIMUM)

test-locked: .venv-locked/installed  ## with the exact versions of requirements-test.txt, by their hashes
	.venv-locked/bin/python -m pytest

coverage: .venv/installed-dev  ## lines and branches; fails below 90 %
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered

lock: .venv/installed-dev  ## writes requirements-test.txt from what is installed: torch is left out, it differs by device
	$(BIN)/python -m pip freeze --exclude-editable | grep -vE '^(torch|torchvision|pip|oodkit)(==| @)' | \
		uv pip compile --no-deps --generate-hashes --no-annotate --no-header --python $(BIN)/python - -o requirements-test.txt

audit:  ## known vulnerabilities of the locked versions, by pypi.org: fails where a package has no record there
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet 'pip-audit>=2.10'
	.venv-audit/bin/pip-audit --strict --disable-pip --require-hashes --requirement requirements-test.txt
	.venv-audit/bin/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt

test-reference: .venv/installed-dev  ## the paper's figures from its own weights: needs OODKIT_REFERENCE and OODKIT_DATA
	$(BIN)/python -m pytest -m slow

paper-cpu: .venv/installed-dev  ## what two cores can do of the paper in half an hour: needs the same two
	$(BIN)/python benchmarks/paper_cpu.py

# What the commands of oodkit set for themselves: threads that wait a moment only, freed memory that is kept.
AS_COMMANDS := GOMP_SPINCOUNT=10000 MALLOC_TRIM_THRESHOLD_=268435456 MALLOC_MMAP_THRESHOLD_=33554432

speed: .venv/installed-dev  ## how fast, as ratios in one run; wants an idle machine. make speed ARGUMENTS="--quick"
	$(AS_COMMANDS) $(BIN)/python benchmarks/speed.py $(ARGUMENTS)

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

.venv-minimum/installed: tests/minimum.txt pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-minimum
	.venv-minimum/bin/python -m pip install --quiet --constraint constraints.txt --constraint tests/minimum.txt \
		--editable . 'pytest>=8' 'hypothesis>=6.100' 'hatchling>=1.26'
	touch $@

.venv-locked/installed: requirements-test.txt constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv-locked
	.venv-locked/bin/python -m pip install --quiet --constraint constraints.txt torch torchvision
	.venv-locked/bin/python -m pip install --quiet --no-deps --require-hashes --requirement requirements-test.txt
	.venv-locked/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf .venv .venv-minimum .venv-locked .venv-audit build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
