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
# A folder wheels/, as make bundle packs it, holds all that the course needs: then nothing is asked of the network.
OFFLINE := $(if $(wildcard wheels),--no-index --find-links wheels)
# quiet, and one patient question where that index cannot be reached (what torch needs comes from PyPI afterwards)
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
TORCH = --retries 1 --no-deps $(or $(OFFLINE),$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))) torch

.DEFAULT_GOAL := help
.PHONY: help lab test lint unit web notebooks-test notebooks timings samples peers book slides bundle clean

help:
	@echo "make lab        set up and open the course in JupyterLab (ARGS=--no-browser passes through)"
	@echo "make test       set up and pass every check: the four that follow"
	@echo "make lint       style and formatting"
	@echo "make unit       lint, and the tests that need neither website nor browser"
	@echo "make web        the tests of the website, the playground and the widgets in JupyterLab"
	@echo "make notebooks-test   every notebook against its stored outputs"
	@echo "make notebooks  run every notebook and store its normalised outputs (ONLY=07 runs one)"
	@echo "make timings    run every notebook and print what it takes (ONLY=07 runs one)"
	@echo "make samples    draw the pictures of the README and the website's first page"
	@echo "make peers      install what benchmarks/peers.py compares with, into .venv-peers; the course never needs it"
	@echo "make book       build the website into book/_build/html"
	@echo "make slides     build the slides of the workshop of 90 minutes into book/_build/slides; they need npm once"
	@echo "make bundle     pack course, website and wheels into one archive, for a classroom without network"
	@echo "make clean      remove the environment and everything built (a bundle keeps its website)"

$(VENV)/.course: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; have = sys.version_info[:2]; (3, 11) <= have <= (3, 14) or sys.exit("$(PYTHON) is \
	Python %d.%d; the course needs 3.11 to 3.14. Where there is another: make PYTHON=python3.12 ..." % have)'
	@echo "Setting up $(VENV) (once, about a minute; PyTorch is the large part)"
	@[ -z "$(OFFLINE)" ] || echo "... from wheels/ $$(cat wheels/made_for.txt 2>/dev/null)"
	$(PYTHON) -m venv $(if $(wildcard $@),,--clear) $(VENV)
	$(PIP) $(TORCH)
	$(PIP) $(OFFLINE) --editable ".[course]"
	@touch $@

$(VENV)/.test: $(VENV)/.course
	$(PIP) --editable ".[course,test,book]"
	@touch $@

lab: $(VENV)/.course
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks/00_start_here.ipynb $(ARGS)

# As many workers as cores, a file or a notebook at a time, one core each: two notebooks side by side are done sooner than
# one after the other with both cores.
WORKERS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile
test: unit web notebooks-test

unit: lint
	$(WORKERS) --no-loadscope-reorder -m "not web"

web: $(VENV)/.test
	$(BIN)/python -m tools.website.playground
	$(WORKERS) --no-loadscope-reorder -m web

# on the CPU, where the stored outputs come from
notebooks-test: $(VENV)/.test
	LEARN_DIFFUSION_DEVICE=cpu $(WORKERS) -p tools.nbval_patience notebooks --nbval --nbval-current-env --nbval-cell-timeout 600 \
		--nbval-sanitize-with tests/nbval.cfg

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

notebooks: $(VENV)/.test
	$(BIN)/python -m tools.notebooks $(ONLY)

timings: $(VENV)/.test
	$(BIN)/python -m tools.notebooks --timings $(ONLY)

samples: $(VENV)/.course
	$(BIN)/python -m tools.readme_images

# an environment of its own: the course, and beside it exactly what benchmarks/peers.txt lists
peers: BIN := .venv-peers/bin
peers:
	$(PYTHON) -m venv .venv-peers
	$(PIP) $(TORCH)
	$(PIP) --editable .
	$(PIP) --no-deps --requirement benchmarks/peers.txt
	@echo "Now: $(BIN)/python benchmarks/peers.py --help"

book: $(VENV)/.test
	$(BIN)/python -m tools.website.build

slides: $(VENV)/.test
	$(BIN)/python -m tools.website.slides

# The course as committed, its website, and every wheel that machines like this one need: the same system, processor and
# Python. setuptools is among them because pip installs the course itself with it.
KIND = $(shell uname -sm | tr ' ' -)-python$(shell $(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
PACKED := dist/learn_diffusion
FETCH = $(PIP:install=download) --only-binary :all: --dest $(PACKED)/wheels
bundle: $(VENV)/.test
	rm -rf $(PACKED) && mkdir -p $(PACKED)/wheels
	git archive HEAD | tar -x -C $(PACKED)
	@git diff --quiet HEAD || echo "Not in the bundle: changes that are not committed"
	$(FETCH) $(TORCH)
	$(FETCH) --find-links $(PACKED)/wheels "setuptools>=77" ".[course]"
	echo "for $(KIND)" > $(PACKED)/wheels/made_for.txt
	$(BIN)/python -m tools.website.build && mkdir -p $(PACKED)/book/_build && cp -R book/_build/html $(PACKED)/book/_build \
		|| echo "Not in the bundle: the website, which could not be built"
	$(BIN)/python -m tools.website.slides && mkdir -p $(PACKED)/book/_build && cp -R book/_build/slides $(PACKED)/book/_build \
		|| echo "Not in the bundle: the slides, which could not be built"
	rm -f $(PACKED)-$(KIND).zip
	cd dist && ../$(BIN)/python -m zipfile -c learn_diffusion-$(KIND).zip learn_diffusion
	rm -rf $(PACKED)
	@ls -lh $(PACKED)-$(KIND).zip

clean:
	rm -rf $(VENV) .venv-peers $(if $(OFFLINE),,book/_build) build dist *.egg-info .pytest_cache .ruff_cache
