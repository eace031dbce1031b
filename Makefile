# Everything that a developer or a CI runs. `make` alone lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_QUIET := --quiet --disable-pip-version-check
PROTOS := $(shell find protos -name '*.proto')

.PHONY: help
help:  ## list the targets
	@awk 'BEGIN { FS = ":.*## *" } /^[a-z-]+:.*##/ { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ------------------------------------------------------------------------------------ environments

.PHONY: setup
setup: $(VENV)/setup.stamp  ## make .venv: gateway, ONNX worker, SDK and CLI; no torch

$(VENV)/setup.stamp: requirements/all.txt pyproject.toml
	@echo "setting up $(VENV)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install $(PIP_QUIET) --require-hashes -r requirements/all.txt
	$(BIN)/pip install $(PIP_QUIET) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.stamp: requirements/dev.txt $(VENV)/setup.stamp
	$(BIN)/pip install $(PIP_QUIET) --require-hashes -r requirements/dev.txt
	@touch $@

.venv-protos/setup.stamp: requirements/protos.txt
	$(PYTHON) -m venv .venv-protos
	.venv-protos/bin/pip install $(PIP_QUIET) --require-hashes -r requirements/protos.txt
	@touch $@

.venv-lock/setup.stamp: requirements/lock.txt
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install $(PIP_QUIET) --require-hashes -r requirements/lock.txt
	@touch $@

# --------------------------------------------------------------------------------------------- run

.PHONY: run
run: setup  ## set up everything, start gateway and worker, answer a sample prompt, stay up
	@exec $(BIN)/diplex up

.PHONY: bench
bench: setup  ## measure what worker, gateway and gRPC cost one stream
	$(BIN)/python -m benchmarks.single_stream

# ------------------------------------------------------------------------------------------- tests

.PHONY: test
test: $(VENV)/dev.stamp  ## set up everything and run the default suite
	$(BIN)/pytest

.PHONY: test-slow
test-slow: $(VENV)/dev.stamp  ## what takes minutes: each extra alone in its own environment, `make run` in a fresh clone
	$(BIN)/pytest -m slow

.PHONY: lint
lint: $(VENV)/dev.stamp  ## ruff, mypy, import-linter, buf
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code

.PHONY: format
format: $(VENV)/dev.stamp  ## rewrite the sources as ruff and buf want them
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/buf format --write

# -------------------------------------------------------------------------------------- generated

.PHONY: protos
protos: .venv-protos/setup.stamp  ## write the stubs in diplex/ anew from protos/
	.venv-protos/bin/python -m grpc_tools.protoc -Iprotos \
	    --plugin=protoc-gen-mypy=.venv-protos/bin/protoc-gen-mypy \
	    --plugin=protoc-gen-mypy_grpc=.venv-protos/bin/protoc-gen-mypy_grpc \
	    --python_out=. --grpc_python_out=. --mypy_out=quiet:. --mypy_grpc_out=quiet:. $(PROTOS)

.PHONY: protos-check
protos-check: protos  ## fail when the committed stubs are not those of protos/
	@git diff --exit-code --stat -- '*_pb2*' || { echo "run 'make protos' and commit the stubs" >&2; exit 1; }
	@test -z "$$(git ls-files --others --exclude-standard -- '*_pb2*')" || { echo "commit the new stubs" >&2; exit 1; }

BASE ?= main

.PHONY: protos-breaking
protos-breaking: $(VENV)/dev.stamp  ## fail when protos/ breaks clients of the branch or commit BASE (default main)
	$(BIN)/buf breaking --against '.git#ref=$(BASE)'

LOCK := .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-annotate --custom-compile-command "make lock"

.PHONY: lock
lock: .venv-lock/setup.stamp  ## resolve the dependencies anew within the ranges of pyproject.toml
	$(LOCK) pyproject.toml requirements/build.in --extra all --extra dev --output-file requirements/dev.txt
	$(LOCK) pyproject.toml requirements/build.in --extra all --constraint requirements/dev.txt --output-file requirements/all.txt
	$(LOCK) pyproject.toml requirements/build.in --extra gateway --constraint requirements/dev.txt --output-file requirements/gateway.txt
	$(LOCK) pyproject.toml requirements/build.in --extra onnx --constraint requirements/dev.txt --output-file requirements/onnx.txt
	$(LOCK) pyproject.toml requirements/build.in --constraint requirements/dev.txt --output-file requirements/sdk.txt
	$(LOCK) requirements/protos.in --output-file requirements/protos.txt
	$(LOCK) requirements/lock.in --output-file requirements/lock.txt

.PHONY: clean
clean:  ## remove environments and caches; the model store stays
	rm -rf .venv .venv-protos .venv-lock .venv-sdk .venv-gateway .venv-onnx .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
