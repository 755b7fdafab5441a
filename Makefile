# Every target sets itself up in a fresh clone: its own virtual environment in .venv.
# Another Python or torch build: make demo PYTHON=python3.12 TORCH="torch --index-url <your CUDA wheel index>"
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DATA ?=
# Tests run in so many processes, each on one thread.
WORKERS ?= -n 2 --dist worksteal
test test-slow test-kernels: export OMP_NUM_THREADS := 1

.PHONY: demo test test-slow test-kernels lint docs pictures dist-check setup clean

demo: $(READY)
	$(BIN)/python examples/demo.py $(if $(DATA),--data $(DATA))

test: $(READY)
	$(BIN)/python -m pytest $(WORKERS)

test-slow: $(READY)
	$(BIN)/python -m pip install -qq --editable ".[onnx]"
	$(BIN)/python -m pytest -m slow $(WORKERS)

# The fits once more, as a processor without vector instructions would compute them: a fit must not hang on rounding.
test-kernels: $(READY)
	ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE $(BIN)/python -m pytest $(WORKERS) tests/fitting

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The pages of docs/ as a site in build/docs; a broken link is an error.
docs: $(READY)
	$(BIN)/python -m pip install -qq --editable ".[docs]"
	$(BIN)/mkdocs build --strict

# The notebooks with fresh outputs and pictures, and the picture of the README.
pictures: $(READY)
	$(BIN)/python examples/run_notebooks.py
	$(BIN)/python examples/draw_people.py --out docs/images/people.png

# Source distribution and wheel in dist/, checked as a package index checks them, and installed into a fresh environment.
dist-check: $(READY)
	$(BIN)/python -m pip install -qq --editable ".[release]"
	PYTHON="$(PYTHON)" TORCH="$(TORCH)" BIN="$(BIN)" .ci/dist_check

setup: $(READY)

$(READY): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --upgrade pip
	$(BIN)/python -m pip install -qq $(TORCH)
	$(BIN)/python -m pip install -qq --editable ".[fitting,viz,train,test]"
	touch $(READY)

clean:
	rm -rf $(VENV) demo build dist *.egg-info
