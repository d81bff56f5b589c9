# The one door for people and for CI. Needs python3 (3.11 or newer), make and a package index.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := demo-out
PYTEST := $(BIN)/python -m pytest -n 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-providers gpu lint check bench docs picture foreign clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' Makefile

setup: $(READY) ## Create .venv and install modelopt with its development tools

# The stamp is newer than pyproject.toml once all is installed, so the other targets start at once.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "modelopt needs Python 3.11 or newer: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet -e ".[cpu,images]" --group dev
	@touch $@

demo: $(READY) ## Compress a trained sample model to int8 and print the report
	@mkdir -p $(DEMO)
	$(BIN)/modelopt compress sample_models/digits_resnet/model.onnx --recipe int8 \
	  --calib sample_models/digits_resnet/calib.npz --eval sample_models/eval.npz \
	  -o $(DEMO)/digits_resnet.int8.onnx --report $(DEMO)/report.md

test: $(READY) ## Run the fast tests (under 5 minutes)
	$(PYTEST) -m "not slow and not providers and not browser and not reference"

# Installed on top of the stamp before it: a new pyproject.toml brings both up to date.
$(VENV)/.reference: $(READY)
	$(BIN)/python -m pip install --quiet --group reference
	@touch $@

test-all: $(VENV)/.reference ## Run every test, the slow ones too
	$(PYTEST)

# Each wheel of onnxruntime overwrites the files of the others: an environment of its own for each.
PROVIDERS := .venv-providers
PLUGINS := onnxruntime-ggml onnxruntime-ep-openvino

$(PROVIDERS)/%/.ready: pyproject.toml
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(@D)/bin/python -m pip install --quiet -e ".[$(if $(filter plugin,$*),cpu,$*)]" "pytest>=8" \
	  $(if $(filter plugin,$*),$(PLUGINS))
	@touch $@

test-providers: $(foreach each,gpu openvino plugin,$(PROVIDERS)/$(each)/.ready) ## Test with other wheels of onnxruntime (1.5 GB of them)
	for each in gpu openvino plugin; do $(PROVIDERS)/$$each/bin/python -m pytest tests/providers || exit 1; done

# Libraries of CUDA and TensorRT are some 6 GB: they are fetched only where there is a GPU for them.
$(PROVIDERS)/cuda/.ready: pyproject.toml
	@command -v nvidia-smi >/dev/null || { echo "make gpu: no NVIDIA GPU here (there is no nvidia-smi): nothing was run" >&2; exit 5; }
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(@D)/bin/python -m pip install --quiet -e ".[gpu]" "onnxruntime-gpu[cuda,cudnn]" tensorrt
	@touch $@

gpu: $(PROVIDERS)/cuda/.ready ## Measure all that needs a GPU and write benchmarks/RESULTS-gpu.md
	$(PROVIDERS)/cuda/bin/python -m benchmarks.gpu

lint: $(READY) ## Check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test ## Everything that must hold before a commit

bench: $(READY) ## Measure against peers and write benchmarks/RESULTS.md; asserts nothing
	$(BIN)/python -m benchmarks

docs: $(READY) ## Build the site and the manual pages: build/docs/index.html, build/man
	$(BIN)/python docs/site/assemble.py build/source
	$(BIN)/sphinx-build -q -W --keep-going -b html -c docs/site build/source build/docs
	$(BIN)/sphinx-build -q -W --keep-going -b man -c docs/site build/source build/man

picture: $(READY) ## Take the README's picture anew, from a real run in Chromium
	$(BIN)/python docs/site/picture.py

foreign: $(READY) ## Run every command on other people's models and print a table
	test -d .venv-foreign || $(BIN)/python -m pip install --quiet --no-deps --target .venv-foreign silero-vad magika
	$(BIN)/python -m benchmarks.foreign

clean: ## Remove what the other targets made, but for .venv
	rm -rf $(DEMO) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +
