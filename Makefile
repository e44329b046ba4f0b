# Every target has its `## text`; `make` alone prints them. Nothing here needs to be installed
# first except make and Python 3.11 or newer: ops/venv.sh sees to the rest, inside .venv.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:

PY := .venv/bin/python
SRC := lightspeed_protocol/src lightspeed_proxy/src lightspeed_client/src
CODE := $(SRC) tests bench fuzz ops
DISTRIBUTIONS := lightspeed_protocol lightspeed_proxy lightspeed_client

# `make test PYTEST="-k relay -x"`, `make demo ARGS="--seconds 10"`, `make fuzz SECONDS=300`
PYTEST ?=
ARGS ?=
SECONDS ?= 20

.PHONY: help
help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

# ops/venv.sh compares what is installed with what the files ask for: 0.1 s when nothing changed.
.PHONY: run-env
run-env:
	@sh ops/venv.sh run

.PHONY: dev
dev:  ## make .venv with everything a developer needs
	@sh ops/venv.sh dev

.PHONY: demo
demo: run-env  ## play a match over a lossy link on this machine, without and with loss repair
	@$(PY) -m lightspeed_client demo $(ARGS)

.PHONY: test
test: dev  ## all tests but the slow ones; says by name what it had to skip
	$(PY) -m pytest -ra $(PYTEST)

.PHONY: slow
slow: dev  ## the tests that take real minutes
	$(PY) -m pytest -ra -m slow $(PYTEST)

.PHONY: net
net: dev  ## only the tests in network namespaces (root)
	$(PY) -m pytest -ra -m net $(PYTEST)

.PHONY: fmt
fmt: dev  ## format the code and apply the safe fixes
	$(PY) -m ruff check --fix $(CODE)
	$(PY) -m ruff format $(CODE)

.PHONY: lint
lint: dev  ## ruff, codespell, async rules, direction of imports
	$(PY) -m ruff check $(CODE)
	$(PY) -m ruff format --check $(CODE)
	.venv/bin/codespell
	find $(SRC) -name '*.py' -exec $(PY) -m flake8_async --enable ASYNC --disable $(ASYNC_OFF) {} +
	.venv/bin/lint-imports

# 114, 128: a task that hands its task_status on to another is not seen to call started().
# 124: web handlers are async whether they wait or not. 9xx: rules for other frameworks, and an
# accounting of checkpoints that drain loops break on purpose.
ASYNC_OFF := ASYNC114,ASYNC124,ASYNC128,ASYNC900,ASYNC910,ASYNC911,ASYNC912,ASYNC913

.PHONY: types
types: dev  ## mypy --strict for Linux, Windows and macOS (bench is for Linux only)
	$(PY) -m mypy --platform linux $(CODE)
	$(PY) -m mypy --platform win32
	$(PY) -m mypy --platform darwin

.PHONY: cover
cover: dev  ## line and branch coverage of `make test`, child processes included
	$(PY) -m coverage erase
	$(PY) -m coverage run -m pytest -q $(PYTEST)
	$(PY) -m coverage combine -q
	$(PY) -m coverage report

# Tools that `dev` does not install: they are for one target each, or for Linux only.
# $(call group,NAME,MODULES): install the group unless its modules can be imported.
group = $(PY) -c "for name in '$(2)'.split(): __import__(name)" 2>/dev/null || \
	$(PY) -m pip --disable-pip-version-check --no-input install -q -c constraints.txt \
	$$($(PY) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["$(1)"])')

.PHONY: bench
bench: dev  ## the measurements; ratios inside one run, JSON in bench/results
	@$(call group,bench,matplotlib zfec) || true
	$(PY) -m bench $(ARGS)

.PHONY: bench-fec
bench-fec: dev  ## loss repair in virtual time: tables and plot in docs/, exit 1 if a target is missed
	@$(call group,bench,matplotlib zfec)
	$(PY) -m bench.fec $(ARGS)

.PHONY: fuzz
fuzz: dev  ## hostile bytes for every decoder, SECONDS (20) each; exit 1 on a finding
	@$(call group,fuzz,atheris) || true
	@$(PY) -m fuzz --seconds $(SECONDS) $(ARGS)

.PHONY: docs
docs: dev  ## write the man pages in docs/man from the commands' own help
	$(PY) -m ops.man_pages

.PHONY: docs-check
docs-check: dev  ## every block and link in the documents, every --help, the man pages
	$(PY) -m pytest -ra tests/packaging/test_docs.py tests/packaging/test_help.py $(PYTEST)

.PHONY: packaging
packaging: dev  ## build the wheels and start each one's command in a clean environment
	$(PY) -m pytest -ra -m "packaging or not packaging" tests/packaging $(PYTEST)

.PHONY: wheels
wheels: dev  ## build the three wheels into dist/
	@set -e; for name in $(DISTRIBUTIONS); do \
		$(PY) -m build --no-isolation --wheel --outdir dist "$$name"; done

.PHONY: clean
clean:  ## remove .venv, caches and everything built
	rm -rf .venv dist .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache \
		.hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
