# `make evolve` sets everything up and runs the main job; `make test` checks it. Both work in a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
# pip compiles what it installs on one core; this does on all. Some packages hold files that are no Python of today.
COMPILE := $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
# Two test processes on two cores: one thread each is faster than four fighting; the one that is done first takes tests over.
# ribs has numba compile, for seconds, what adds a few rows. Images often keep Python from writing what it compiles; each
# process would compile the tests again.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 NUMBA_DISABLE_JIT=1 $(BIN)/pytest -q -n 2 --dist worksteal
ELSEWHERE := not gpu and not ray
# Ten thousand take two cores a minute and a half.
SCHEDULES ?= 10000

.DEFAULT_GOAL := help
.PHONY: help setup evolve test test-all check format-check types floors schema schema-check docs test-slow test-kernels test-schedules test-ray test-gpu clean

help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' Makefile

setup: $(VENV)/.installed $(VENV)/.oracles ## Make .venv with evo and its tools (once; minutes)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "evo needs Python 3.11 or newer; this is $$($(PYTHON) --version). Try: make PYTHON=python3.12 setup"; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version)."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing evo, torch and the tools into $(VENV): a few minutes, once, and quiet."
	@started=$$(date +%s); $(PIP) --no-compile -c constraints.txt -e '.[test]' && { $(COMPILE); } \
		&& echo "Installed in $$(( $$(date +%s) - started )) s."
	@touch $@

$(VENV)/.oracles: requirements-oracles.txt $(VENV)/.installed
	@echo "Installing the independent implementations that tests compare with."
	@$(PIP) --no-compile --no-deps -r requirements-oracles.txt
	@$(COMPILE)
	@touch $@

evolve: $(VENV)/.installed ## The main job: an evolution on real text (minutes)
	$(BIN)/evo evolve examples/first.yaml --set train.steps=40 --generations 3 --population 6 --seed 0 --out results/demo

test: setup ## The quick tests (minutes)
	$(BIN)/ruff check .
	$(PYTEST) -m "not slow and $(ELSEWHERE)"

test-all: test check ## Everything this machine can check

# What uses one core, or waits, goes two at a time; the other tests use both.
check: setup ## What `make test` leaves out (many minutes)
	@$(MAKE) --no-print-directory -j2 test-ray types docs floors schema-check format-check
	@$(MAKE) --no-print-directory test-slow test-kernels test-schedules

format-check: setup
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/pyright

floors: setup
	$(BIN)/lint-imports

schema: setup ## Write dsl_schemas/ and docs/language.md
	$(BIN)/evo schema --docs docs

schema-check: setup
	$(BIN)/evo schema --docs docs --check

# Exit status 5 means that no test is marked slow.
test-slow: setup
	$(PYTEST) -m "slow and $(ELSEWHERE)" || [ $$? -eq 5 ]

test-schedules: setup ## Drawn schedules of kills and full disks: SCHEDULES=10000
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python tests/evolution/schedules.py $(SCHEDULES)

test-kernels: setup ## The Triton kernels, small, on the CPU (minutes)
	TRITON_INTERPRET=1 $(PYTEST) -m "not slow and $(ELSEWHERE)" tests/kernels

$(VENV)/.docs: $(VENV)/.installed
	@echo "Installing MkDocs for the documentation site."
	@$(PIP) -c constraints.txt -e '.[docs]' || echo "MkDocs cannot be installed here; the documentation site is not built."
	@touch $@

docs: setup $(VENV)/.docs ## Build the documentation site into site/
	@if $(BIN)/python -c 'import mkdocs' 2> /dev/null; then $(BIN)/python -m mkdocs build --strict --quiet; \
		else echo "The documentation site was not built: MkDocs is not installed."; fi

# Ray has no wheels for every Python and machine: where it cannot be installed, the tests of its engine are left out, and that is said.
$(VENV)/.ray: $(VENV)/.installed
	@echo "Installing Ray for the tests of its engine."
	@$(PIP) -c constraints.txt -e '.[ray]' || echo "Ray cannot be installed here; the tests of its engine are skipped."
	@touch $@

test-ray: setup $(VENV)/.ray ## The engine on a local Ray cluster (minutes)
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -m ray tests/engines

test-gpu: setup ## The proofs that need a CUDA device
	$(BIN)/pytest -q -n 8 -m gpu

clean: ## Remove caches and build leftovers, not .venv or results
	rm -rf build dist src/*.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
