# The commands of the project. `make` alone lists them.
# The environment in .venv is made when it is missing, from pyproject.toml and with the
# user's own pip configuration; setup.py rebuilds what changed and nothing else.

PYTHON ?= python3
VENV   ?= .venv
BIND   ?= 127.0.0.1:8000
# Further arguments for what is run: make test ARGS="-k parser --impl python"
ARGS   ?=
# Processes of a test run, one per core unless told: make test JOBS=4; JOBS=0 tests in pytest itself
JOBS   ?= auto
# Tests with services wait more than they compute: two processes per core.
TWICE   = $(shell echo $$((2 * $$(nproc))))

PY     := $(VENV)/bin/python
SOURCE := setup.py cyhorn tests examples perf fuzz docs reliability

.DEFAULT_GOAL := help
.PHONY: help venv build serve test apps neighbours browser lint format annotate perf compare icount syscalls regression sanitize fuzz guided reliability soak docs clean

help: ## list the commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "make %-11s %s\n", $$1, $$2}'

venv: $(VENV)/.installed
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet 'setuptools>=77'
	CYHORN_BUILD=pure $(PY) -m pip install --quiet --no-build-isolation --editable '.[dev]'
	touch $@

build: $(VENV)/.installed ## build the extension modules in place
	$(PY) setup.py --quiet build_ext --inplace

serve: build ## serve examples/flask on BIND (127.0.0.1:8000)
	cd examples/flask && exec $(abspath $(VENV))/bin/cyhorn --bind $(BIND) --workers 2 $(ARGS) app:app

test: build ## run all tests, compiled and pure
	$(PY) -m pytest -n $(JOBS:auto=$(TWICE)) --dist worksteal $(ARGS)

apps: build $(VENV)/.apps ## real frameworks and services under cyhorn (as root it installs what Debian has of them)
	tests/apps/packages.sh
	$(PY) -m pytest tests/apps -n $(JOBS:auto=$(TWICE)) --dist loadfile $(ARGS)
$(VENV)/.apps: $(VENV)/.installed
	CYHORN_BUILD=pure $(PY) -m pip install --quiet --no-build-isolation --editable '.[apps]'
	touch $@

neighbours: build ## run behind nginx and HAProxy, and before real clients (those that are there)
	$(PY) -m pytest tests/neighbours $(ARGS)

browser: build ## the tests in headless Chromium (needs chromium)
	$(PY) -m pytest -m browser tests/examples tests/neighbours $(ARGS)

lint: $(VENV)/.installed ## ruff, mypy --strict, cython-lint
	$(VENV)/bin/ruff check $(wildcard $(SOURCE))
	$(VENV)/bin/mypy
	PATH="$(abspath $(VENV))/bin:$$PATH" cython-lint $(wildcard cyhorn/*.pyx cyhorn/*.pxd)

format: $(VENV)/.installed ## let ruff put imports in order and fix what it can
	$(VENV)/bin/ruff check --fix $(wildcard $(SOURCE))

annotate: $(VENV)/.installed ## annotated C in build/annotate; Python left in hot functions against its budget
	$(PY) -m perf.annotate $(ARGS)

perf: build ## time parser, environ, writer and the whole cycle (pytest-benchmark)
	$(PY) -m pytest perf --benchmark-enable --benchmark-only $(ARGS)

compare: build ## measure cyhorn beside other servers: CPU per request, interleaved
	$(PY) -m perf.compare $(ARGS)

icount: build ## instructions per request (callgrind) against the committed figures
	$(PY) -m perf.icount $(ARGS)

syscalls: build ## system calls per request (strace) against what they should be
	$(PY) -m perf.syscalls $(ARGS)

regression: build ## time the tree against a base commit, both built here
	$(PY) -m perf.regression $(ARGS)

sanitize: build ## run parser, environ, writer, loop and twins under AddressSanitizer and UBSan (ARGS="--thorough")
	$(PY) -m fuzz.sanitize $(ARGS)

fuzz: build ## feed mutated bytes and whole connections to both twins (ARGS="--seconds 600")
	$(PY) -m fuzz.fuzz_parser $(ARGS)
	$(PY) -W ignore -m fuzz.fuzz_wire $(ARGS)

guided: build ## fuzz by coverage, with atheris (ARGS="head|body|loop --guide compiled|python --seconds 600")
	$(PY) -m pip install --quiet 'atheris>=2.3'
	$(PY) -m fuzz.guided $(or $(ARGS),loop --guide python)

reliability: build ## what happens when something fails, as figures (ARGS=--short; ARGS=--write for docs/reliability.md)
	$(PY) -m reliability $(ARGS)

soak: build ## half an hour of everything at once (ARGS="--minutes 5")
	$(PY) -m reliability.soak $(ARGS)

docs: $(VENV)/.docs ## write the manual to docs/_build, warnings are errors (installs Sphinx)
	$(PY) -m sphinx -W --keep-going --quiet -b html docs docs/_build
$(VENV)/.docs: $(VENV)/.installed
	CYHORN_BUILD=pure $(PY) -m pip install --quiet --no-build-isolation --editable '.[docs]'
	touch $@

clean: ## remove what was built (the environment stays)
	rm -rf build dist *.egg-info cyhorn/*.so cyhorn/*.c cyhorn/*.html .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
