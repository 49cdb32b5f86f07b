# make setup · demo · test · test-fast · lint · types · docs · bench · clean
# The first Python that all requirements have a build for.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
OLDEST := .venv-oldest
PHOTOS := examples/photos
# Each of two processes takes half of the tests in order, so that neighbours share what they set up, then helps the other.
PYTEST := python -m pytest -n 2 --dist worksteal

.PHONY: setup demo test test-fast test-oldest lint types docs bench clean

setup: $(VENV)/.installed

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "igpt_tf needs Python 3.11 to 3.13, found none; name one: make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

# One stamp for each extra of pyproject.toml: .installed-dev, .installed-hf, .installed-docs.
$(VENV)/.installed-%: pyproject.toml $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	touch $@

demo: setup
	$(BIN)/python run.py complete $(PHOTOS) --n 4 --n_sub_batch 32 --scale 4 --no_names --out out/demo \
		--grid out/demo.png

test: $(VENV)/.installed-dev
	$(BIN)/$(PYTEST)
	KERAS_BACKEND=jax $(BIN)/$(PYTEST) -m both_backends

# What to run before every commit: TensorFlow alone, without the tests marked slow.
test-fast: $(VENV)/.installed-dev
	$(BIN)/$(PYTEST) -m "not slow"

# The fast tests on the oldest versions that requirements.txt allows.
test-oldest:
	$(PYTHON) -m venv $(OLDEST)
	sed -nE 's/^([a-z0-9-]+)>=([0-9.]+).*/\1==\2.*/p' requirements.txt > $(OLDEST)/oldest.txt
	$(OLDEST)/bin/python -m pip install --quiet -c $(OLDEST)/oldest.txt --editable ".[tensorflow,dev]"
	$(OLDEST)/bin/$(PYTEST) -m "not slow"

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/pyright

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

bench: $(VENV)/.installed-dev $(VENV)/.installed-hf
	$(BIN)/python -m benchmarks.loading
	$(BIN)/python -m benchmarks.sampling --batch_size 1 8 --repeats 1
	$(BIN)/python -m benchmarks.reproducible
	$(BIN)/python -m benchmarks.completion
	$(BIN)/python -m benchmarks.store
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.features --images 16
	$(BIN)/python -m benchmarks.studio --seconds 60

clean:
	rm -rf out $(OLDEST) .pytest_cache .ruff_cache
