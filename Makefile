# `make demo` and `make test` do all their set-up themselves; they need Python 3.11 or later.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
PYTEST := timeout -s KILL 1500 $(BIN)/pytest

.DEFAULT_GOAL := help
.PHONY: help demo test witness deployed torture bench install lint format generate requirements \
	wheel clean

help: ## Say what can be made
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(VENV)/.installed ## Run the daemon for real against the simulator; no key is needed
	@$(BIN)/sutro-poller demo

test: lint ## Run all checks and tests but those of `make witness` and `make deployed`
	PYTHONHASHSEED=0 $(PYTEST) -n 2 --cov --cov-report=term
	@echo "Left out: tests/sdk_compat, which installs the official SDK (520 MB) and uv: make witness"
	@echo "and tests/deploy, which boots a systemd and runs container engines as root: make deployed"

witness: $(VENV)/.installed ## Test with the official SDK (520 MB), and the wheel under uv
	$(PYTEST) -m witness tests/sdk_compat

deployed: $(VENV)/.installed build/deploy/.installed ## Test deploy/ on the real thing (root, Debian)
	$(PYTEST) -m deploy tests/deploy

torture: $(VENV)/.installed ## Torture the daemon for half an hour and write the README's table; SEED=n repeats one
	mkdir -p build && rm -f build/torture.jsonl
	PYTHONHASHSEED=$(SEED) TORTURE_SEED=$(SEED) TORTURE_LONG=1 \
		TORTURE_RESULTS=$(CURDIR)/build/torture.jsonl \
		timeout -s KILL 9000 $(BIN)/pytest -n 2 tests/fault_injection
	$(BIN)/python tests/fault_injection/report.py build/torture.jsonl $(SEED)

bench: $(VENV)/.installed ## Measure the daemon against others for 15 minutes; CHAPTERS="polls pages" shows some
	timeout -s KILL 2400 $(BIN)/python -m tests.bench $(CHAPTERS)

SEED := $(shell od -An -N3 -tu4 /dev/urandom | tr -d ' ')

lint: $(VENV)/.installed ## Check style, types and layers
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

format: $(VENV)/.installed ## Format the code
	$(BIN)/ruff check --quiet --fix .
	$(BIN)/ruff format --quiet .

generate: $(VENV)/.installed ## Write config/ and the README's settings table from the settings
	$(BIN)/python tests/generate.py

requirements: ## Pin what pyproject.toml asks for (needs uv)
	uv pip compile $(PIN) pyproject.toml -o deploy/requirements.txt
	uv pip compile $(PIN) pyproject.toml --extra demo --group dev \
		-c deploy/requirements.txt -o tests/requirements.txt
	uv pip compile $(PIN) --group pyproject.toml:build \
		-c tests/requirements.txt -o deploy/container/build.txt
	uv pip compile $(PIN) --group pyproject.toml:deploy \
		-c tests/requirements.txt -o tests/deploy/requirements.txt

PIN := -q --upgrade --universal --generate-hashes --python-version 3.11 --no-header --no-annotate

wheel: $(VENV)/.installed ## Build the wheel into dist/
	$(BIN)/python -m build --quiet --wheel --no-isolation

install: ## Install the daemon on this host as a systemd service (as root)
	/usr/bin/python3 -m venv $(PLACE)
	$(PLACE)/bin/pip install --quiet --require-hashes --no-deps -r deploy/requirements.txt
	$(PLACE)/bin/pip install --quiet --force-reinstall --no-deps $(WHEEL)
	install -d /etc/sutro-poller
	test -e /etc/sutro-poller/poller.env || \
		install -m 0600 config/minimal.env /etc/sutro-poller/poller.env
	install -m 0644 deploy/systemd/sutro-poller.service /etc/systemd/system/
	systemctl daemon-reload

# What is installed: this tree, or a wheel of it.
WHEEL := .
PLACE := /opt/sutro-poller

clean: ## Remove what was made here
	rm -rf $(VENV) dist build .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache

# The pinned file is complete. Left to look for itself, pip before 24 takes an extra of a pinned package
# (coverage[toml]) from its newest release, and refuses it for want of a hash.
$(VENV)/.installed: tests/requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes --no-deps -r tests/requirements.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Programs that check what is in deploy/, apart from what the other tests use.
build/deploy/.installed: tests/deploy/requirements.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --require-hashes --no-deps -r tests/deploy/requirements.txt
	@touch $@
