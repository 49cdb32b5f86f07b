# make setup · demo · test · lint · bench
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PHOTOS := examples/photos

.PHONY: setup demo test lint bench clean

setup: $(VENV)/.installed

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "igpt_tf needs Python 3.11 or newer; give one with: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

demo: setup
	$(BIN)/python run.py complete $(PHOTOS) --n 4 --n_sub_batch 32 --out out/demo --grid out/demo.png

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest
	KERAS_BACKEND=jax $(BIN)/python -m pytest -m both_backends

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.loading
	$(BIN)/python -m benchmarks.sampling

clean:
	rm -rf out .pytest_cache .ruff_cache
