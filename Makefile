# The front door. `make` alone lists what there is. Works with GNU make 3.81 (macOS) and newer.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	if "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then command -v "$$p"; break; fi; done)
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8000
PYTEST_ARGS ?=
SOAK_MINUTES ?= 60

# What a stamp file stands for: everything that decides what is installed, and nothing else.
PYTHON_STAMP := $(VENV)/.runcast-installed
NODE_STAMP := node_modules/.runcast-installed
WEB_STAMP := src/runcast/web/dist/index.html
PACKAGE_FILES := package.json package-lock.json .npmrc $(wildcard packages/*/package.json apps/*/package.json tests/clients/package.json)
WEB_SOURCES := $(shell find apps/web packages -type f \
	-not -path '*/node_modules/*' -not -path '*/dist/*' -not -path '*/test/*' -not -name '*.test.*' 2>/dev/null)
SPEC_SOURCES := $(shell find spec -type f -name '*.json' 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help setup web demo test test-fast test-python test-node test-browser check format bench bench-full bench-installed soak autobahn clean python-found node-found

help: ## list these commands
	@echo "Runcast: make <command>"
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  %-12s %s\n' "$$name" "$$text"; done

setup: $(PYTHON_STAMP) $(NODE_STAMP) ## install everything into .venv and node_modules (the second time: nothing to do)

web: $(WEB_STAMP) ## build the chat page into the Python package, if its sources changed

demo: setup web ## play the demo agent on http://127.0.0.1:8000 (PORT=… for another)
	$(BIN)/runcast demo --port $(PORT)

test: setup web test-node test-browser test-python ## run every test: Python, TypeScript and browser

test-python:
	$(BIN)/python -m pytest -n auto $(PYTEST_ARGS)

test-node:
	npm test

test-browser: setup web ## run the browser tests: the real server and page in the machine's Chromium
	npm run test:browser

test-fast: setup ## run the tests that take seconds: no builds, no browser
	npm test
	$(BIN)/python -m pytest -n auto -m "not slow and not browser" $(PYTEST_ARGS)

check: setup ## formatting, lint, types and floors, changing nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	node_modules/.bin/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	npm run check

format: setup ## rewrite Python and TypeScript the way `make check` wants it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	npm run format

bench: bench-installed ## measure the short set against the goals (10 minutes; writes benchmarks/RESULTS.md)
	$(BIN)/python benchmarks/run.py

bench-full: bench-installed ## measure everything, with every peer (half an hour; installs the peers under .bench)
	$(BIN)/python benchmarks/run.py --full

soak: bench-installed ## an hour of everything at once: is memory flat, is nothing missed? (SOAK_MINUTES=60)
	$(BIN)/python benchmarks/soak.py --minutes $(SOAK_MINUTES)

autobahn: setup ## test the WebSocket with the Autobahn testsuite (needs Python 2.7 and the network)
	$(BIN)/python scripts/autobahn.py

bench-installed: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[bench]" -c constraints.txt

clean: ## remove everything that these commands made
	rm -rf $(VENV) node_modules apps/*/node_modules packages/*/node_modules src/runcast/web/dist dist build \
		.bench .pytest_cache .ruff_cache .hypothesis .import_linter_cache test-results
	find src tests examples benchmarks -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

python-found:
	@test -n "$(PYTHON)" || { echo "Runcast needs Python 3.11 or newer, and none was found as python3 or python3.11 … python3.14 on PATH." >&2; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.12 setup" >&2; exit 1; }

node-found:
	@command -v npm >/dev/null 2>&1 && command -v node >/dev/null 2>&1 || { \
		echo "The chat page and the TypeScript client need Node 20 or newer with npm; node or npm is not on PATH." >&2; \
		echo "(To use Runcast without building it: pip install runcast needs no Node.)" >&2; exit 1; }
	@node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 20 ? 0 : 1)' || { \
		echo "The chat page and the TypeScript client need Node 20 or newer; this is $$(node --version)." >&2; exit 1; }

$(PYTHON_STAMP): pyproject.toml constraints.txt | python-found
	@test -x $(BIN)/python || { echo "making $(VENV) with $(PYTHON)"; "$(PYTHON)" -m venv $(VENV); } || { \
		rm -rf $(VENV); echo "Could not make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[demo,dev]" -c constraints.txt
	@touch $@

$(NODE_STAMP): $(PACKAGE_FILES) | node-found
	npm ci --no-audit --no-fund --loglevel=error
	@touch $@

$(WEB_STAMP): $(NODE_STAMP) $(WEB_SOURCES)
	npm run build
	@test -f $@ || { echo "the build made no $@" >&2; exit 1; }
	@touch $@
