# `make` alone prints its targets.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
FASHION_MNIST := /usr/share/datasets/fashion-mnist
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
# Debian's packages can be installed by root only; elsewhere torchvision downloads the data, and
# tests that need a browser are skipped.
APT := $(shell [ "$$(id -u)" = 0 ] && command -v apt-get)

export DVC_NO_ANALYTICS := 1
export DO_NOT_TRACK := 1

.DEFAULT_GOAL := help
.PHONY: help run test docs environment dev-environment data browser lock clean

help:  ## print this
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 23

run: environment data  ## the whole pipeline, from raw images to registered models
	$(BIN)/python -m pipelines.flow

test: dev-environment browser  ## linters, types, the documentation and all tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile
	$(BIN)/zensical build --strict
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

docs: dev-environment  ## the documentation, as pages in .site
	$(BIN)/zensical build --strict
	@echo "open .site/index.html"

environment: $(VENV)/.run  ## .venv with what the pipeline needs, pinned
dev-environment: $(VENV)/.dev  ## … and with what development needs

$(VENV)/.run: requirements.lock pyproject.toml
	@echo "Installing the environment into $(VENV) (a few minutes, once) ..."
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --requirement requirements.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	$(PIP) --requirement requirements-dev.lock
	@touch $@

data:
	@if [ -n "$(APT)" ] && [ ! -d $(FASHION_MNIST) ]; then \
		echo "Installing Debian's dataset-fashion-mnist ..."; \
		apt-get install --yes --quiet=2 dataset-fashion-mnist > /dev/null 2>&1 \
			|| { apt-get update --quiet=2 && \
			     apt-get install --yes --quiet=2 dataset-fashion-mnist > /dev/null; } \
			|| echo "not available; it will be downloaded instead"; \
	fi

browser:
	@if [ -n "$(APT)" ] && [ ! -x /usr/bin/chromium ]; then \
		echo "Installing Debian's chromium ..."; \
		apt-get install --yes --quiet=2 --no-install-recommends chromium > /dev/null 2>&1 \
			|| { apt-get update --quiet=2 && \
			     apt-get install --yes --quiet=2 --no-install-recommends chromium > /dev/null; } \
			|| echo "not available; tests that need a browser will be skipped"; \
	fi

lock:  ## pin what a fresh environment resolves to today
	rm -rf $(VENV) && $(PYTHON) -m venv $(VENV)
	$(PIP) setuptools '.[pipeline]'
	echo "# Everything that the pipeline imports, pinned; made by \`make lock\`." > requirements.lock
	$(BIN)/python -m pip freeze --all --exclude joslim --exclude pip >> requirements.lock
	$(PIP) ".[dev]"
	{ echo "# What development needs beside requirements.lock, pinned; made by \`make lock\`."; \
	  echo "-r requirements.lock"; \
	  $(BIN)/python -m pip freeze --all --exclude joslim --exclude pip \
	  | grep --invert-match --line-regexp --fixed-strings --file requirements.lock; \
	} > requirements-dev.lock
	rm -rf $(VENV)

clean:  ## remove the environment and all that runs have made
	rm -rf $(VENV) .site data models reports .joslim mlflow.db mlruns
