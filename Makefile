# One command a lane. Every lane first makes .venv from the lock file and builds the native modules;
# what is done already is not done again. `make PYTHON=/path/to/python3.12 test` picks the interpreter.

PYTHON ?=
# Processes that `make test` runs side by side, a file of tests at a time.
WORKERS ?= 2
BIN := .venv/bin
READY := .venv/.native .venv/.install
# What only tests need and pip does not bring.
TEST_TOOLS := .venv/.azurite .venv/.chromium
NATIVE_SOURCES := setup.py $(wildcard _ext/*)

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' Makefile

.PHONY: demo
demo: $(READY) ## Run the demo: an upstream API, a pipeline and live joined results
	@$(BIN)/python examples/demo/run_demo.py $(DEMO)

.PHONY: test
test: $(READY) $(TEST_TOOLS) ## Run all tests; TESTS="path -k name" narrows them, WORKERS=0 runs them one by one
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(TESTS)

.PHONY: quick
quick: $(READY) $(TEST_TOOLS) ## Run the tests that take seconds
	$(BIN)/python -m pytest -q -m "not slow" $(TESTS)

.PHONY: soak
soak: $(READY) ## Run the fault tests for as long as a release needs: 100 kills, 30 stops, an hour
	LITEJOIN_TEST_KILLS=100 LITEJOIN_TEST_STOPS=30 LITEJOIN_FAULT_ROUNDS=100 LITEJOIN_TEST_READER_S=60 \
		$(BIN)/python -m pytest --timeout 3600 -o faulthandler_timeout=0 $(or $(TESTS),tests/faults)

.PHONY: lint
lint: .venv/.packages ## Check style and formatting (ruff)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: types
types: .venv/.packages ## Check types (mypy --strict)
	$(BIN)/mypy

.PHONY: stubs
stubs: $(READY) ## Compare the native modules with their hand-written stubs
	$(BIN)/python tools/check_stubs.py

.PHONY: sanitize
sanitize: .venv/.packages ## Run the tests of native code under the address and UB sanitizers
	@tools/sanitize $(TESTS)

.PHONY: docs
docs: $(READY) ## Regenerate the generated reference pages
	$(BIN)/python -m docs.tools.generate

.PHONY: docs-check
docs-check: $(READY) ## Check that docs and code agree
	$(BIN)/python -m docs.tools.generate --check
	$(BIN)/python -m pytest -q tests/test_docs.py

.PHONY: goldens
goldens: $(READY) ## Write the reviewed plans (tests/unit/plan/golden) anew; read the diff
	LITEJOIN_WRITE_GOLDEN=1 $(BIN)/python -m pytest -q tests/unit/plan/test_golden.py

.PHONY: bench
bench: $(READY) ## Run the benchmarks; see bench/README.md
	$(BIN)/python -m bench.run $(BENCH)

.PHONY: format
format: .venv/.packages ## Format the code and fix what can be fixed by machine
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: lock
lock: ## Renew requirements/dev.txt from the ranges in pyproject.toml
	tools/lock

.PHONY: clean
clean: ## Remove everything that was built, .venv included
	rm -rf .venv build dist litejoin.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -f litejoin/_ext/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps live in .venv: a new environment, perhaps of another Python, builds everything anew.
.venv/.packages: requirements/dev.txt tools/prepare
	@tools/prepare $(PYTHON)
	@echo "installing the locked packages into .venv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	@touch $@

.venv/.native: .venv/.packages $(NATIVE_SOURCES)
	@echo "building the native modules"
	@$(BIN)/python setup.py -q build_ext --inplace
	@touch $@

# The tests' stand-in of Azure, a package of npm.
.venv/.azurite: .venv/.packages tools/azurite/package.json
	@echo "installing azurite into .venv"
	@mkdir -p .venv/azurite && cp tools/azurite/package.json .venv/azurite/
	@npm install --prefix .venv/azurite --silent --no-audit --no-fund --no-update-notifier
	@touch $@

# The browser that looks at the live page.
.venv/.chromium: .venv/.packages tools/chromium
	@tools/chromium

# Puts the `litejoin` command into .venv; the modules are built in place already, so none is built here.
.venv/.install: .venv/.packages pyproject.toml
	@LITEJOIN_EXT=none $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--no-build-isolation --no-deps --editable .
	@touch $@
