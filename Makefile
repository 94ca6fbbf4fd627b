# `make demo` and `make test` do all set-up themselves; nothing but Python >= 3.11 and make is needed.
# `make reproduce WHAT=table1 ARGS=--quick` measures the paper again; `make page` shows the committed records.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WHAT ?= all

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

.PHONY: demo test lint types check reproduce page wheel clean

demo: $(VENV)/ready
	$(BIN)/python examples/demo.py

test: $(VENV)/ready
	$(BIN)/python -m pytest -q -n 2

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/ready
	$(BIN)/pyright

check: lint types test

reproduce: $(VENV)/ready
	$(BIN)/python -m experiments.reproduce $(WHAT) $(ARGS)

page: $(VENV)/ready
	$(BIN)/python -m experiments.reproduce page experiments/results benchmarks/results $(ARGS)

wheel: $(VENV)/ready
	$(BIN)/python -m build

clean:
	rm -rf $(VENV) dist demo-output
