# mirror_audit: everything that a clone needs. `make help` lists the targets.
#
# One virtual environment, .venv, holds the package as users get it: a wheel built here, not an editable install,
# so that the checkout's own mirror_audit/ is out of the way and the compiled modules are really what is tested.
# The interpreted run puts the checkout on PYTHONPATH instead: the same tests, the plain sources.
# Nothing depends on a virtual environment that is active, and nothing is written that git does not ignore.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --no-input

# Settings of the caller's shell that would send pip or Python somewhere else.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP VIRTUAL_ENV PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV PIP_CONSTRAINT

# PYTHONSAFEPATH: `python -m ...` in the checkout, also as a child of a test, must find the installed package.
PYTEST := PYTHONSAFEPATH=1 $(PY) -m pytest
INTERPRETED := PYTHONPATH="$(CURDIR)" PYTHONSAFEPATH=1 $(PY) -m pytest

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint types test-compiled test-interpreted bench samples format clean always

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F '\t' '{ printf "  make %-18s %s\n", $$1, $$2 }'

demo: $(VENV)/.package ## install into .venv and show what samples/demo.pcap tells
	$(VENV)/bin/mirror-audit replay samples/demo.pcap --output table

test: lint types test-compiled test-interpreted ## all checks and tests, on the compiled and the interpreted build

lint: $(VENV)/.dev ## ruff: rules and format
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.dev ## mypy --strict
	$(VENV)/bin/mypy

# Tests of the compiled build must not pass because a compiler was missing.
test test-compiled: export MIRROR_AUDIT_COMPILE = require

test-compiled: $(VENV)/.dev ## all tests on the compiled build (ARGS=... goes to pytest)
	$(PYTEST) --build=compiled $(ARGS)

test-interpreted: $(VENV)/.dev ## the tests of behaviour on the plain sources (ARGS=... goes to pytest)
	$(INTERPRETED) --build=interpreted -m "not build and not live" $(ARGS)

bench: $(VENV)/.dev ## measure; benchmarks/README.md says what
	$(PY) benchmarks/bench.py $(ARGS)

samples: $(VENV)/.dev ## make the captures in samples/ again
	$(PY) samples/make_samples.py $(ARGS)

format: $(VENV)/.dev ## let ruff format and repair what it can
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

clean: ## remove everything that make made
	rm -rf $(VENV) build dist mirror_audit.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find mirror_audit tests samples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit("mirror_audit needs Python 3.11 or newer, $(PYTHON) is %d.%d: try make PYTHON=python3.13" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# Changes only if the content of a source changes: times say little after a checkout, and nothing about deleted files.
$(VENV)/.sources: $(VENV)/.made always
	@{ find mirror_audit -type f ! -name '*.pyc' ! -name '*.so'; ls pyproject.toml setup.py README.md LICENSE; } \
		| LC_ALL=C sort | xargs cksum > $@.new
	@if cmp -s $@ $@.new; then rm $@.new; else mv $@.new $@; fi

# Every version and every file's hash comes from constraints.txt. Its first part is enough to build and to run; the
# build is not isolated, so that it holds for the compiler mypyc as well.
$(VENV)/.build-tools: $(VENV)/.made constraints.txt
	@sed '/^# To test and to develop/,$$d' constraints.txt > $(VENV)/run.txt
	$(PIP) install --quiet --require-hashes -r $(VENV)/run.txt
	@touch $@

$(VENV)/.package: $(VENV)/.build-tools $(VENV)/.sources
	@rm -rf build mirror_audit.egg-info $(VENV)/wheel
	@echo "building mirror_audit; compiling takes about a minute"
	$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir $(VENV)/wheel .
	@rm -rf build mirror_audit.egg-info
	$(PIP) install --quiet --no-deps --force-reinstall $(VENV)/wheel/*.whl
	@$(PIP) check
	@echo "installed in $(VENV): $$(PYTHONSAFEPATH=1 $(PY) -m mirror_audit._build)"
	@touch $@

$(VENV)/.dev: constraints.txt | $(VENV)/.package
	$(PIP) install --quiet --require-hashes -r constraints.txt
	@$(PIP) check
	@touch $@

always:
