# Everything a developer or an operator does with this repository. `make` alone lists it.
# Needs: Linux x86-64, Python 3.11 or newer with venv, make. No Docker, no Java.

PYTHON  ?= python3
WORKERS ?= 3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv

MEMBERS  := shared services/consent-gateway services/tenant-registry services/notifier \
            deploy/entra-sandbox deploy/platform-idp deploy/sample-app deploy/launcher
STAND_INS := deploy/entra-sandbox deploy/platform-idp deploy/sample-app
PROJECTS := pyproject.toml $(MEMBERS:%=%/pyproject.toml)
SOURCES  := $(wildcard shared/src services/*/src deploy/*/src) tests bench docs $(wildcard deploy/*.py) deploy/compose
# A full development environment serves the demo as well; the demo alone needs much less.
DEMO_ENV := $(if $(wildcard $(VENV)/.dev),$(VENV)/.dev,$(VENV)/.demo)

# A shell that forbids Python to keep what it has compiled would have every process compile its libraries anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo token test test-unit check format docs screenshots lock bench clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.dev ## Make the environment in .venv, with all tools

demo: $(DEMO_ENV) ## Start the whole system on this machine; Ctrl-C stops it (DEMO_PORTS="gateway=9080" moves ports)
	@exec $(BIN)/python -m launcher up $(ARGS)

token: $(DEMO_ENV) ## Print a bearer token of the running demo: make token ROLE=admin ACCOUNT=northwind
	@$(BIN)/python -m launcher token --role $(or $(ROLE),viewer) $(if $(ACCOUNT),--account $(ACCOUNT)) $(if $(APP),--app $(APP))

# Each worker has a broker and a mongod of its own; one more than the machine has cores, since tests wait a lot.
# In the order of the folders: whole systems come first.
test: $(VENV)/.dev ## Run all tests, on a real broker and a real mongod that they start themselves
	$(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-unit: $(VENV)/.dev ## Run the tests that need no broker and no database
	$(BIN)/pytest tests/unit tests/contract $(ARGS)

check: $(VENV)/.dev ## Lint, formatting, types and import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy $(SOURCES)
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.dev ## Apply the formatting and the safe fixes of the linter
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/.dev ## Write what is generated from the code: configuration, schemas, AsyncAPI
	$(BIN)/python docs/generate.py

screenshots: $(VENV)/.dev ## Take the pictures of docs/screenshots anew, in a real Chromium
	SCREENSHOTS=docs/screenshots $(BIN)/pytest tests/e2e/test_browser.py \
	  tests/integration/consent_gateway_console/test_pictures.py

bench: $(VENV)/.dev ## Measure the hot paths against their floors (BENCH=NAME for one: projection, delivery, isolation, streams, latency, probes, screen)
	PYTHONPATH=tests $(BIN)/python -m bench $(BENCH)

# Names, versions and hashes, no addresses: uv.lock records where a package came from, so it stays out of git.
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
           --no-emit-index-url --no-emit-find-links $(foreach name,consent-platform-shared consent-gateway tenant-registry \
           consent-notifier entra-sandbox platform-idp sample-app consent-platform-launcher,--no-emit-package $(name))
lock: $(VENV)/.uv ## Renew the locks in locks/ from the pyproject files (UPGRADE=--upgrade takes newer versions)
	@echo "Resolving ..."
	@$(COMPILE) $(UPGRADE) locks/bootstrap.in -o locks/bootstrap.lock
	@$(COMPILE) $(UPGRADE) --group dev $(MEMBERS:%=%/pyproject.toml) -o locks/dev.lock
	@$(COMPILE) -c locks/dev.lock $(MEMBERS:%=%/pyproject.toml) -o locks/demo.lock
	@$(COMPILE) -c locks/dev.lock shared/pyproject.toml $(wildcard services/*/pyproject.toml) -o locks/services.lock
	@$(COMPILE) -c locks/dev.lock $(STAND_INS:%=%/pyproject.toml) -o locks/stand-ins.lock
	@sed -i '/^# The following packages were excluded/,$$d' locks/*.lock

clean: ## Remove the environment, the caches and the demo's data
	rm -rf $(VENV) .local .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.uv: locks/bootstrap.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; name it with: make PYTHON=python3.12"; exit 1; }
	@echo "Making the environment in $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing; on Debian: apt-get install python3-venv"; exit 1; }
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r locks/bootstrap.lock
	@touch $@

define install
@echo "Installing what $(1).lock names ..."
@$(UV) pip sync --quiet --require-hashes locks/bootstrap.lock locks/$(1).lock
@$(UV) pip install --quiet --no-deps --no-build-isolation $(MEMBERS:%=-e %)
@touch $@
endef

$(VENV)/.demo: $(VENV)/.uv locks/demo.lock $(PROJECTS)
	$(call install,demo)

$(VENV)/.dev: $(VENV)/.uv locks/dev.lock $(PROJECTS)
	$(call install,dev)
