# make demo: train on Pong, with videos and a report.   make test: the fast tests.   make help: the rest.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
# one process for each core, each with one thread
PARALLEL := --numprocesses=logical --dist=worksteal
export GOMP_SPINCOUNT ?= 1000

.PHONY: help setup demo test test-slow coverage check docs format clean

help:
	@echo "make setup      create .venv and install everything, pinned by constraints.txt"
	@echo "make demo       train an agent on Atari Pong until it is solved; videos and report"
	@echo "make test       fast tests        make test-slow   learning tests too"
	@echo "make coverage   fast tests, and the lines that they do not run"
	@echo "make check      lint, format and types"
	@echo "make docs       the documentation site, in .site"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("joypad needs Python 3.11 or newer; set PYTHON=/path/to/it" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[sb3,games,supervised,speech,sweep,dev]'
	touch $(STAMP)

demo: setup
	@echo "PPO learns Atari Pong from pixels until it wins by 18 points. This took 2 min 51 s on two cores of an EPYC server."
	$(BIN)/python scripts/train.py ppo --env ALE/Pong-v5 --preset fast --videos

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow' $(PARALLEL) --durations=20

test-slow: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) --durations=20
	$(BIN)/python -m tests.faults

coverage: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow' $(PARALLEL) --cov --cov-report=
	$(BIN)/coverage report --skip-covered --show-missing
	@for package in agents envs networks scripts; do \
	  echo "$$package: $$($(BIN)/coverage report --include="$$package/*" --format=total) %"; done

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict --config-file .mkdocs.yml

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .site .venv *.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage .coverage.*
