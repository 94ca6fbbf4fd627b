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

.PHONY: demo test fuzz mutations lint types check all-checks reproduce page site docs wheel clean

demo: $(VENV)/ready
	$(BIN)/python examples/demo.py

# One thread a worker: two workers that also share out their small matrices wait for each other most of the time.
test: export OMP_NUM_THREADS := 1
test: $(VENV)/ready
	$(BIN)/python -m pytest -q -n 2

# Random problems by the hundred, new ones each time, where the suite draws a few (tests/test_fuzz.py).
fuzz: $(VENV)/ready
	VIF_FUZZ=long $(BIN)/python -m pytest -q -n 2 --hypothesis-show-statistics tests/test_fuzz.py

# Faults planted in a copy, each of which the tests must catch; ARGS=--all with the whole suite (benchmarks/mutations.py).
mutations: $(VENV)/ready
	$(BIN)/python benchmarks/mutations.py $(ARGS)

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/ready
	$(BIN)/pyright

check: lint types test

# What CI runs (.ci/run: lint, types, site, test), and what takes too long for it: the long fuzz, every planted fault.
all-checks: export ARGS ?= --all
all-checks: lint types site test fuzz mutations

reproduce: $(VENV)/ready
	$(BIN)/python -m experiments.reproduce $(WHAT) $(ARGS)

page: $(VENV)/ready
	$(BIN)/python -m experiments.reproduce page experiments/results benchmarks/results $(ARGS)

docs: site

# Its gallery is executed and its links are checked; site/index.html opens without a server.
site: export OMP_NUM_THREADS := 1
site: export MPLBACKEND := agg
site: export NO_MKDOCS_2_WARNING := 1
site: $(VENV)/ready
	$(BIN)/mkdocs build --quiet

wheel: $(VENV)/ready
	$(BIN)/python -m build

clean:
	rm -rf $(VENV) dist demo-output site docs/generated
