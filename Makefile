# RefStream: `make demo` and `make test` are all one needs; both create .venv first if it is missing.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
PY := $(VENV)/bin/python
REQUIREMENTS := $(VENV)/.requirements
# One entry point per method: the stamp's name lists them, so that a new or deleted folder makes it stale.
METHODS := $(notdir $(patsubst %/__init__.py,%,$(filter-out projects/_%,$(wildcard projects/*/__init__.py))))
EMPTY :=
STAMP := $(VENV)/.installed+$(subst $(EMPTY) $(EMPTY),+,$(METHODS))
MODEL ?=
VIDEO ?=
EXPRESSION ?=

# Values reach the shell through the environment, so that any quote in an expression survives.
export MODEL VIDEO EXPRESSION

.PHONY: help install demo test test-slow check format tiny bench clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

install: $(STAMP)  ## Create .venv with everything in it; does nothing when it is up to date

$(PY):
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("RefStream needs Python 3.11 or newer; try make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)

$(REQUIREMENTS): requirements.txt requirements-nodeps.txt | $(PY)
	$(PY) -m pip install --quiet --upgrade pip setuptools wheel
	$(PY) -m pip install --quiet -r requirements.txt
	SAM2_BUILD_CUDA=0 $(PY) -m pip install --quiet --no-deps --no-build-isolation -r requirements-nodeps.txt
	@touch $@

$(STAMP): $(REQUIREMENTS) setup.py
	@rm -rf $(VENV)/.installed+* refstream.egg-info build/lib build/bdist.*  # what pip left would shadow the new
	$(PY) -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: install  ## Segment the embedded clip, or VIDEO=... EXPRESSION=... MODEL=...; results under outputs/demo
	@$(PY) tools/demo.py $${MODEL:+--model "$$MODEL"} $${VIDEO:+--video "$$VIDEO"} \
		$${EXPRESSION:+--expression "$$EXPRESSION"}

test: install  ## Run the fast tests (CPU, no network)
	@$(PY) -m pytest

test-slow: install  ## Run the tests marked slow as well
	@$(PY) -m pytest -m 'not gpu'

check: install  ## Lint, format, types, and the tables rendered from docs/results
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(PY) tools/render_results.py --check

format: install  ## Format and sort the code, render the tables
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .
	@$(PY) tools/render_results.py

tiny: install  ## Rebuild the weights in pretrained/tiny (about three hours on 2 cores)
	@bash tools/make_tiny.sh

bench: install  ## Measure streaming speed on this machine, into outputs/bench
	@$(VENV)/bin/refstream bench stream --out outputs/bench/bench_stream.json

clean:  ## Remove caches, build products and outputs; keeps .venv, data, pretrained, work_dirs
	rm -rf build dist outputs .mypy_cache .ruff_cache .pytest_cache *.egg-info
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -print | xargs rm -rf
