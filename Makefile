# The whole project in a few words. Needs Python 3.11 or later and nothing else; makes its own environment.
PYTHON ?= python3
VENV   ?= .venv
DATA   ?=
OUT    ?= demo-out
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# files of tests side by side, one on each core; what a file makes for its own tests is made once, slow files come first
SIDE_BY_SIDE := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: demo test check lint types unit docs clean

## demo: run the main job on phantoms, or on DATA=folder
demo: $(READY)
ifeq ($(DATA),)
	$(BIN)/segpipe phantom $(OUT)/phantoms
	$(BIN)/segpipe run configs/demo.yaml --data $(OUT)/phantoms -o $(OUT)
else
	$(BIN)/segpipe run configs/demo.yaml --data $(DATA) -o $(OUT)
endif

## test: everything that must hold before a change lands
test: lint types unit

## check: the fast half
check: lint types
	$(BIN)/pytest -q $(SIDE_BY_SIDE) -m "not slow and not gpu"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy segpipe

unit: $(READY)
	$(BIN)/pytest -q $(SIDE_BY_SIDE)

## docs: write docs/config.md from the code
docs: $(READY)
	$(BIN)/segpipe config docs > docs/config.md

clean:
	rm -rf $(VENV) demo-out build dist

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "segpipe needs Python 3.11 or later; set PYTHON=/path/to/python3.11"; exit 4; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $(READY)
