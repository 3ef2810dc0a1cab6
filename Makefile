# make lab     set up and open the course          make lab ARGS=--no-browser passes arguments on
# make test    set up and pass every check
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# On Linux PyPI's torch brings 5.7 GB of CUDA along. Without an NVIDIA driver the CPU build is taken instead, where its
# index can be reached. TORCH_INDEX= (empty) takes PyPI's.
ifeq ($(shell uname -s)$(shell command -v nvidia-smi),Linux)
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
endif
# quiet, and one patient question where that index cannot be reached (what torch needs comes from PyPI afterwards)
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
TORCH = $(PIP) --retries 1 --no-deps $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch

.DEFAULT_GOAL := help
.PHONY: help lab test lint notebooks timings samples peers book clean

help:
	@echo "make lab        set up and open the course in JupyterLab (ARGS=--no-browser passes through)"
	@echo "make test       set up and pass every check: lint, unit tests, every notebook, the book"
	@echo "make lint       style and formatting"
	@echo "make notebooks  run every notebook and store its normalised outputs (ONLY=07 runs one)"
	@echo "make timings    run every notebook and print what it takes (ONLY=07 runs one)"
	@echo "make samples    draw the pictures of the README, data/prompt.png and data/samples.png"
	@echo "make peers      install what benchmarks/peers.py compares with, into .venv-peers; the course never needs it"
	@echo "make book       build the website into book/_build/html"
	@echo "make clean      remove the environment and everything built"

$(VENV)/.course: pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (once, about a minute; PyTorch is the large part)"
	$(PYTHON) -m venv $(VENV)
	$(TORCH)
	$(PIP) --editable ".[course]"
	@touch $@

$(VENV)/.test: $(VENV)/.course
	$(PIP) --editable ".[course,test,book]"
	@touch $@

lab: $(VENV)/.course
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks/00_start_here.ipynb $(ARGS)

# unit tests: as many workers as cores, a file at a time, one core each; notebooks one after the other, as a reader runs them
test: lint
	$(BIN)/python book/playground.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile
	$(BIN)/python -m pytest notebooks --nbval --nbval-current-env --nbval-sanitize-with tests/nbval.cfg \
		--nbval-cell-timeout 600

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

notebooks: $(VENV)/.test
	$(BIN)/python tests/notebooks.py $(ONLY)

timings: $(VENV)/.test
	$(BIN)/python tests/notebooks.py --timings $(ONLY)

samples: $(VENV)/.course
	$(BIN)/python -c "from learn_diffusion import recipes; print(*recipes.samples_png())"

# an environment of its own: the course, and beside it exactly what benchmarks/peers.txt lists
peers: BIN := .venv-peers/bin
peers:
	$(PYTHON) -m venv .venv-peers
	$(TORCH)
	$(PIP) --editable .
	$(PIP) --no-deps --requirement benchmarks/peers.txt
	@echo "Now: $(BIN)/python benchmarks/peers.py --help"

book: $(VENV)/.test
	$(BIN)/python book/build.py

clean:
	rm -rf $(VENV) .venv-peers book/_build build dist *.egg-info .pytest_cache .ruff_cache
