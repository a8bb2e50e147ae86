# Affidavit: `make demo` shows it, `make test` proves it, `make check` keeps it clean. Both set everything up first.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
OPA := .tools/bin/opa
# make test TESTS=tests/unit T=token
TESTS ?= tests
T ?=

.PHONY: help setup demo test check bench bench-redaction bench-compare bench-litellm chart-checks fuzz clean lint format types arch docstrings rego policy generated generate lock \
        images images-twice images-lock node cluster \
        unit laws contract faults integration e2e

help: ## list the verbs
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

setup: ## install the Python environment and the programs (idempotent)
	@$(PYTHON) scripts/setup.py

demo: setup ## run the whole story with a real Envoy, OPA, S3 server and model
	@$(BIN)/affidavit demo

test: setup ## run the tests (TESTS= paths, T= expression)
	@$(BIN)/pytest $(TESTS) $(if $(T),-k "$(T)")

check: setup lint types arch docstrings rego generated ## everything that needs no running program

bench: setup ## measure: writes bench/out/gate.json
	@$(BIN)/python -m bench

bench-redaction: setup ## the bar of redaction, beside Presidio: writes bench/out/redaction.json
	@$(PYTHON) scripts/setup.py presidio
	@$(BIN)/python -m bench.redaction

bench-compare: setup ## all of it beside a no-op server, LiteLLM and Presidio: writes bench/out/compare.json
	@$(PYTHON) scripts/setup.py litellm presidio
	@$(BIN)/python -m bench.compare

bench-litellm: setup ## first token and pauses of a stream, beside LiteLLM: writes bench/out/litellm.json
	@$(PYTHON) scripts/setup.py litellm
	@$(BIN)/python -m bench.litellm

chart-checks: setup ## checkov on what the chart renders (installs it first)
	@$(PYTHON) scripts/setup.py checkov
	@$(BIN)/python -m tests.chart.checks

fuzz: setup ## fuzz the readers of JSON, streams and compressed bodies (SECONDS= of each, default 600)
	@[ -d .tools/atheris ] || $(BIN)/python -m pip install -q --no-deps --require-hashes --target .tools/atheris -r scripts/pins/atheris.txt
	@PYTHONPATH=.tools/atheris $(BIN)/python -m tests.fuzz.run --seconds $(or $(SECONDS),600)

images: setup ## build the images of the gate, Envoy and OPA into build/images (Debian 12)
	@$(BIN)/python -m images $(IMAGES)

images-twice: setup ## build them twice: are they the same, byte for byte?
	@$(BIN)/python -m images --twice $(IMAGES)

images-lock: setup ## pin Debian's packages of the images again
	@$(BIN)/python -m images --lock

node: ## build the one-node Kubernetes of the cluster tests (minutes, once)
	@$(PYTHON) scripts/setup.py node

cluster: node images ## install the chart on a real Kubernetes, break it under load, and look whether all is on record (root)
	@$(BIN)/pytest tests/cluster $(if $(T),-k "$(T)")

lint: ## ruff: lint and format (no cache: what ruff remembers of a file does not know that a module has moved)
	@$(BIN)/ruff check --no-cache . && $(BIN)/ruff format --no-cache --check .

format: ## ruff: mend what can be mended
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

types: ## mypy, strict
	@$(BIN)/mypy

arch: ## the walls between rooms
	@$(BIN)/lint-imports

docstrings: ## do docstrings name the arguments and attributes that are there? (functions: ruff, in lint)
	@$(BIN)/python scripts/check_docstrings.py

rego: ## fmt, check --strict, tests with full coverage
	@for folder in opa/inference/concerns/*/ opa/inference/lib/*/; do \
	  compgen -G "$$folder*_test.rego" > /dev/null || { echo "$$folder has no test: *_test.rego"; exit 1; }; \
	done
	@$(OPA) fmt --fail --list opa/ || { echo "mend the layout with: $(OPA) fmt --write opa/"; exit 1; }
	@$(OPA) check --strict --schema opa/schemas opa/inference opa/system
	@$(OPA) test --timeout 60s --coverage --threshold 100 opa/inference opa/system opa/data.json > /dev/null \
	  || { $(OPA) test --timeout 60s opa/inference opa/system opa/data.json; exit 1; }
	@echo "rego: formatted, strict, tested with full coverage"

policy: setup rego ## the same, and does the policy fail closed? (POLICY= another folder)
	@$(BIN)/affidavit policy check $(or $(POLICY),opa)

generated: ## are the generated files up to date?
	@$(BIN)/python -m ext_proc.generate --check

generate: ## make the generated files again
	@$(BIN)/python -m ext_proc.generate

lock: ## pin the dependencies again, with hashes (needs uv)
	@uv pip compile pyproject.toml --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header -q -o requirements.lock
	@uv pip compile pyproject.toml --group dev --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header -q -o requirements-dev.lock
	@uv pip compile pyproject.toml --extra postgres --extra otel -c requirements.lock --python-version 3.11 --python-platform x86_64-manylinux_2_36 --generate-hashes --no-emit-index-url --no-annotate --no-header -q -o images/requirements.lock

unit laws contract faults integration e2e: setup
	@$(BIN)/pytest tests/$@ $(if $(T),-k "$(T)")

clean: ## remove what was built and installed
	@rm -rf .venv .tools build bench/out tests/browser/out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
