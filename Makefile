# Two commands: `make run` and `make test`. Both set everything up first, and skip that when nothing changed.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
PYTHON := $(VENV)/bin/python
BASE_PYTHON := $(firstword $(foreach p,python3.11 python3.12 python3.13 python3,$(if $(shell command -v $(p)),$(p))))
ARGS ?=
PIP := $(PYTHON) -m pip --disable-pip-version-check -q
PINS := pyproject.toml constraints.txt
COMMA := ,

.PHONY: help run serve monitor demo compile image cluster-test check test lint docs clean

help:  ## Say what can be done
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: $(VENV)/.run  ## Run the pipeline on this machine, end to end (ARGS="--dataset ml-1m ...")
	@$(PYTHON) pipeline.py run $(ARGS)

serve: $(VENV)/.run  ## Serve the champion over HTTP (ARGS="--home var/ml-1m --port 3000")
	@$(PYTHON) -m serving $(ARGS)

monitor: $(VENV)/.run  ## Start Prometheus with the rules beside the running service
	@$(PYTHON) -m deploy.monitor $(ARGS)

demo: $(VENV)/.run  ## The service, Prometheus and a crowd of simulated users (ARGS="--incident drift")
	@$(PYTHON) -m deploy.demo $(ARGS)

compile: $(VENV)/.run  ## Compile the pipeline for Kubeflow into pipeline.yaml
	@$(PYTHON) pipeline.py compile $(ARGS)

image:  ## Build the one image with docker, podman or buildah (ARGS="--build-arg VARIANT=cpu")
	@deploy/build_image.sh $(ARGS)

cluster-test: $(VENV)/.run  ## Two nights on a cluster of its own: needs Docker, kind, kubectl and jq (KEEP=1 leaves it)
	@PYTHON=$(PYTHON) deploy/cluster_test/run.sh

check: lint  ## Lint, type-check and run the fast tests: for the time between two commits
	@$(PYTHON) -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow and not alone"

test: lint  ## Lint, type-check, check the import arrows and the documents, and run every test
	@$(PYTHON) -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not alone"
	@$(PYTHON) -m pytest -m alone

lint: $(VENV)/.test
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy
	@$(VENV)/bin/lint-imports --no-cache
	@NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict --quiet

docs: $(VENV)/.test  ## The documentation site on this machine, rebuilt at every change
	@NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs serve

clean:  ## Remove the environment; runs/ and var/ stay
	rm -rf $(VENV) build *.egg-info

$(VENV)/bin/python:
	@test -n "$(BASE_PYTHON)" || { echo "error: Python 3.11 or newer is needed, and none is on the PATH"; exit 2; }
	@$(BASE_PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed; $(BASE_PYTHON) is older"; exit 2; }
	@$(BASE_PYTHON) -m venv $(VENV)

# A stamp per set of packages; it is older than the pins exactly when something must be installed.
$(VENV)/.run: $(PINS) | $(VENV)/bin/python
	@echo "Installing the pinned packages into $(VENV) (a few minutes, once) ..."
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.test: $(PINS) | $(VENV)/bin/python
	@echo "Installing the pinned packages and the test tools into $(VENV) (a few minutes, once) ..."
	@command -v java >/dev/null || echo "No Java on the PATH: the tests of the Spark profile will be skipped."
	@$(PIP) install -c constraints.txt -e '.[dev$(if $(shell command -v java),$(COMMA)spark)]'
	@touch $(VENV)/.run $@
