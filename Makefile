# Every target sets itself up in a fresh clone: its own virtual environment in .venv.
# Another Python or torch build: make demo PYTHON=python3.12 TORCH="torch --index-url <your CUDA wheel index>"
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DATA ?=

.PHONY: demo test test-slow lint setup clean

demo: $(READY)
	$(BIN)/python examples/demo.py $(if $(DATA),--data $(DATA))

test: $(READY)
	$(BIN)/python -m pytest

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: $(READY)

$(READY): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --upgrade pip
	$(BIN)/python -m pip install -qq $(TORCH)
	$(BIN)/python -m pip install -qq --editable ".[fitting,viz,train,test]"
	touch $(READY)

clean:
	rm -rf $(VENV) demo build dist *.egg-info
