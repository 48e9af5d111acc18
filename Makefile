# `make demo` and `make test` install their dependencies; they need Python 3.11 or later.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
# The time limit of a test run in seconds, after which pytest finishes the running test and prints its
# summary. SIGKILL, after which no summary is printed, comes an hour later.
LIMIT ?= 7200
PYTEST = timeout -v -s KILL $$(($(LIMIT) + 3600)) $(BIN)/pytest --session-timeout $(LIMIT)
# Some tests wait, hence one worker more than two cores need. One that has no tests left takes over
# some of another's, so that slow tests at the end are shared.
WORKERS := -n 3 --dist worksteal
FAST := core settings cli store adapters sinks receive test_virtual.py

.DEFAULT_GOAL := help
.PHONY: help demo docs test test-fast test-python test-sdk test-browser test-deploy test-faults \
	bench install lint format generate requirements wheel dist sbom clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: build/demo/.installed ## Run the daemon against a simulated API; no API key needed
	@build/demo/bin/python -m poller demo

test: lint ## Run all checks and tests except test-sdk, test-browser and test-deploy
	PYTHONHASHSEED=0 $(PYTEST) $(WORKERS) --cov --cov-report=term
	@echo "Not run: make test-sdk, which installs the official SDK (520 MB) and uv,"
	@echo "make test-browser, which needs Debian's Chromium,"
	@echo "and make test-deploy, which boots systemd and runs container engines as root."

test-fast: $(VENV)/.installed ## Run the fast tests, in about a minute
	$(PYTEST) -q -m "not slow" $(FAST:%=tests/%)

test-python: ## Run the fast tests on another Python: make test-python PYTHON=python3.13
	$(MAKE) test-fast VENV=$(subst python,.venv-,$(notdir $(PYTHON)))

test-sdk: $(VENV)/.installed ## Test against the official SDK (520 MB), and the wheel under uv
	$(PYTEST) -m sdk tests/sdk_compat

test-browser: $(VENV)/.installed ## Test the pages in a browser (Debian's chromium)
	$(BIN)/pip install --quiet --require-hashes --no-deps -r tests/browser/requirements.txt
	$(PYTEST) -m browser tests/browser

test-deploy: $(VENV)/.installed build/deploy/.installed ## Test deploy/ with systemd and containers (root, Debian)
	$(PYTEST) -m deploy tests/deploy

test-faults: $(VENV)/.installed ## Inject faults for an hour and update docs/reliability.md; SEED=n repeats a run
	mkdir -p build && rm -f build/faults.jsonl
	PYTHONHASHSEED=$(SEED) FAULTS_SEED=$(SEED) FAULTS_LONG=1 \
		FAULTS_RESULTS=$(CURDIR)/build/faults.jsonl $(PYTEST) $(WORKERS) tests/fault_injection
	$(BIN)/python tests/fault_injection/report.py build/faults.jsonl $(SEED)

bench: $(VENV)/.installed ## Compare with other ways to poll for half an hour; CHAPTERS="polls pages" runs two
	timeout -v -s INT -k 120 $(LIMIT) $(BIN)/python -m tests.bench $(CHAPTERS)

SEED := $(shell od -An -N3 -tu4 /dev/urandom | tr -d ' ')

lint: $(VENV)/.installed ## Check style, types and layers
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

format: $(VENV)/.installed ## Format the code
	$(BIN)/ruff check --quiet --fix .
	$(BIN)/ruff format --quiet .

docs: build/docs/.installed ## Build the documentation into build/site; a warning fails
	build/docs/bin/zensical build --clean --strict

generate: $(VENV)/.installed ## Write config/, the OpenAPI document, the types of events and parts of docs/
	$(BIN)/python tests/generate.py

requirements: ## Pin the dependencies of pyproject.toml (needs uv)
	uv pip compile $(PIN) pyproject.toml -o deploy/requirements.txt
	uv pip compile $(PIN) pyproject.toml --extra email -c deploy/requirements.txt \
		$(DAEMON_PINS) -o deploy/email.txt
	uv pip compile $(PIN) pyproject.toml --extra apprise -c deploy/requirements.txt \
		$(DAEMON_PINS) -o deploy/apprise.txt
	uv pip compile $(PIN) pyproject.toml --group dev \
		-c deploy/requirements.txt -o tests/requirements.txt
	uv pip compile $(PIN) --group pyproject.toml:build \
		-c tests/requirements.txt -o deploy/container/build.txt
	uv pip compile $(PIN) --group pyproject.toml:browser \
		-c tests/requirements.txt -o tests/browser/requirements.txt
	uv pip compile $(PIN) --group pyproject.toml:deploy \
		-c tests/requirements.txt -o tests/deploy/requirements.txt
	uv pip compile $(PIN) --group pyproject.toml:docs -o docs/requirements.txt

# What a file of an extra need not repeat.
DAEMON_PINS := $$(sed -n 's/^\([a-z0-9-]*\)==.*/--no-emit-package \1/p' deploy/requirements.txt)
PIN := -q --upgrade --universal --generate-hashes --python-version 3.11 --no-header --no-annotate

wheel: $(VENV)/.installed ## Build the wheel into dist/
	$(BIN)/python -m build --quiet --wheel --no-isolation

dist: $(VENV)/.installed ## Build the source distribution, and from it the wheel, into dist/
	$(BIN)/python -m build --quiet --no-isolation

sbom: build/deploy/.installed ## Write the bill of materials of the dependencies into build/
	build/deploy/bin/cyclonedx-py requirements deploy/requirements.txt --pyproject pyproject.toml \
		--output-reproducible --output-file build/sutro-poller.cdx.json

install: ## Install the daemon on this host as a systemd service (as root)
	/usr/bin/python3 -m venv $(PREFIX)
	$(PREFIX)/bin/pip install --quiet --require-hashes --no-deps -r deploy/requirements.txt
	$(if $(EXTRAS),$(PREFIX)/bin/pip install --quiet --require-hashes --no-deps $(EXTRAS:%=-r deploy/%.txt))
	$(PREFIX)/bin/pip install --quiet --force-reinstall --no-deps $(WHEEL)
	install -d /etc/sutro-poller
	test -e /etc/sutro-poller/poller.env || \
		install -m 0600 config/minimal.env /etc/sutro-poller/poller.env
	install -m 0644 deploy/systemd/sutro-poller.service /etc/systemd/system/
	systemctl daemon-reload

# `make install` installs this tree, or a wheel of it; EXTRAS="email apprise" are sinks with libraries.
WHEEL := .
EXTRAS :=
PREFIX := /opt/sutro-poller

clean: ## Remove all files that these targets create
	rm -rf $(VENV) .venv-* dist build .cache .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache

# The requirements file is complete, hence --no-deps: pip before 24 resolves an extra of a pinned
# package (coverage[toml]) to its newest release, and then fails because that has no hash.
$(VENV)/.installed: tests/requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes --no-deps -r tests/requirements.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# The dependencies of the daemon and of its build. The code runs from this tree; pip installs it for
# its metadata.
build/demo/.installed: deploy/requirements.txt deploy/container/build.txt pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --require-hashes --no-deps \
		-r deploy/requirements.txt -r deploy/container/build.txt
	$(@D)/bin/pip install --quiet --no-deps --no-build-isolation .
	@touch $@

# Programs that check deploy/, apart from the packages of the other tests.
build/deploy/.installed: tests/deploy/requirements.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --require-hashes --no-deps -r tests/deploy/requirements.txt
	@touch $@

# The packages that build the documentation.
build/docs/.installed: docs/requirements.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --require-hashes --no-deps -r docs/requirements.txt
	@touch $@
