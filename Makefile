# Everything happens in .venv beside this file; the only needs are Python 3.10 or later and make.

SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
READY := $(VENV)/.ready

.PHONY: help demo test parity lint format types check setup clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## outline nuclei in a microscope's image, then teach that model to find coins
	@echo "== demo: about a minute on 2 cores; it says where its pictures are"
	@$(BIN)/scnet demo
	@echo "(scnet is $(BIN)/scnet here)"

test: $(READY) ## run the tests
	@echo "== tests: 5 to 15 minutes on 2 cores"
	@OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n auto -q  # threads that wait let others run

parity: $(READY) ## compare with tensors of MMDetection and detectron2, quantity by quantity
	@echo "== parity: about a minute on 2 cores; SCNET_REFERENCE names the folder with the tensors"
	@$(BIN)/python tests/parity.py

lint: $(READY) ## check style, types and the direction of imports
	@echo "== ruff, mypy and import-linter: about 1 minute"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: $(READY) ## bring the code into the common format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

check: lint test ## everything that must hold before a change lands

setup: $(READY) ## install the package and its tools into .venv

$(READY): pyproject.toml requirements.lock | $(UV)
	@echo "== set-up: torch and the rest, 5 GB on Linux; about 2 minutes with a good line"
	@test -x $(BIN)/python || $(UV) venv -q --python $(PYTHON) $(VENV)
	@$(UV) pip install --compile-bytecode --python $(BIN)/python -c requirements.lock -e '.[dev]'
	@touch $(READY)

.tools/bin/uv:
	@echo "== uv is not installed: putting it into .tools (10 seconds)"
	@$(PYTHON) -m venv .tools
	@.tools/bin/python -m pip install -q --disable-pip-version-check uv

clean: ## remove the environment and what the tools left
	rm -rf $(VENV) .tools .mypy_cache .ruff_cache .pytest_cache
