# make run   the whole pipeline, from raw images to registered models
# make test  linters, types and all tests

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

.PHONY: run test environment dev-environment data browser lock clean

run: environment data
	$(BIN)/python -m pipelines.flow

test: dev-environment browser
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

environment: $(VENV)/.run
dev-environment: $(VENV)/.dev

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

# Pins what a fresh environment resolves to today.
lock:
	rm -rf $(VENV) && $(PYTHON) -m venv $(VENV)
	$(PIP) setuptools .
	echo "# Everything that the pipeline imports, pinned; made by \`make lock\`." > requirements.lock
	$(BIN)/python -m pip freeze --all --exclude joslim --exclude pip >> requirements.lock
	$(PIP) ".[dev]"
	{ echo "# What development needs beside requirements.lock, pinned; made by \`make lock\`."; \
	  echo "-r requirements.lock"; \
	  $(BIN)/python -m pip freeze --all --exclude joslim --exclude pip \
	  | grep --invert-match --line-regexp --fixed-strings --file requirements.lock; \
	} > requirements-dev.lock
	rm -rf $(VENV)

clean:
	rm -rf $(VENV) data models reports .joslim mlflow.db mlruns
