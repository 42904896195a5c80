# Every target first makes or repairs .venv (scripts/setup_env.py): plain Python >= 3.12 is all that is needed.

SHELL := /bin/sh
STAMP := .venv/.stamp
BIN := .venv/bin
# A worker takes the files in turn, whose tests share what they compile, and half of what the other has left.
PYTEST_ARGS ?= -n 2 --dist worksteal
# One BLAS thread per test worker: two workers with two threads each would fight over two cores.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
CANDIDATES := $(PYTHON) $(BIN)/python python3 python3.12 python3.13 python3.14 python \
  /usr/local/bin/python3 /usr/bin/python3 /opt/homebrew/bin/python3 \
  $(wildcard $(HOME)/.pyenv/versions/3.1[2-9]*/bin/python3)
# What `make fuzz` runs: SEEDS graphs from seed START on, LINKER py|vm|numba|mix, in JOBS processes.
SEEDS ?= 2000
START ?= 0
LINKER ?= mix
JOBS ?= 2
HOURS ?= 6
FUZZ := PYTHONPATH=tests $(BIN)/python -m fuzz --jobs $(JOBS)
IS_NEW_ENOUGH := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))

.PHONY: help env demo test test-slow nightly test-clients fuzz fuzz-nightly lint types docs bench lock clean
.DEFAULT_GOAL := help

help:
	@echo "make demo          run the demonstration"
	@echo "make test          run the tests (PYTEST_ARGS='-n 2 --dist worksteal')"
	@echo "make test-slow     run the tests marked slow, which \`make test\` leaves out"
	@echo "make nightly       run all tests, with new random examples every time"
	@echo "make test-clients  run the tests of other libraries, from their source trees, with autotune"
	@echo "                   enabled (PYTENSOR=... PYMC=... PTGP=... PYMC_EXTRAS=...)"
	@echo "make fuzz          random graphs against plain PyTensor (SEEDS=20000 START=0 LINKER=py|vm|numba|mix JOBS=2)"
	@echo "make fuzz-nightly  the same for HOURS=6 from a seed of the day; small scripts in build/fuzz"
	@echo "make lint          ruff check, ruff format --check, and which way imports go (lint-imports)"
	@echo "make types         mypy"
	@echo "make docs          build the pages into build/site, warnings as errors"
	@echo "make bench         measure regret against every forced strategy"
	@echo "make lock          write requirements.lock anew from pyproject.toml"
	@echo "make clean         remove caches and build output (keeps .venv)"

$(STAMP): requirements.lock pyproject.toml scripts/setup_env.py
	@for candidate in $(CANDIDATES); do \
	  if "$$candidate" -c '$(IS_NEW_ENOUGH)' >/dev/null 2>&1; then \
	    exec "$$candidate" scripts/setup_env.py; \
	  fi; \
	done; \
	echo "No Python >= 3.12 with the venv module was found. Looked for: $(CANDIDATES)." >&2; \
	echo "Install one (on Debian and Ubuntu also python3-venv), or name it: make PYTHON=/path/to/python3.12 ..." >&2; \
	exit 1

env: $(STAMP)

demo: $(STAMP)
	$(BIN)/autotune demo

test: $(STAMP)
	$(ONE_THREAD) $(BIN)/python -m pytest $(PYTEST_ARGS)

test-slow: $(STAMP)
	$(ONE_THREAD) $(BIN)/python -m pytest $(PYTEST_ARGS) -m slow

nightly: $(STAMP)
	$(ONE_THREAD) $(BIN)/python -m pytest $(PYTEST_ARGS) -m "" --hypothesis-profile nightly

fuzz: $(STAMP)
	$(ONE_THREAD) $(FUZZ) --start $(START) --count $(SEEDS) --linker $(LINKER)

# A million seeds a day, of which a night does some ten thousand.
fuzz-nightly: $(STAMP)
	mkdir -p build/fuzz
	$(ONE_THREAD) $(FUZZ) --start $$(( $$(date +%s) / 86400 % 2000 * 1000000 )) --count 1000000 \
	  --seconds $$(( $(HOURS) * 3600 )) --linker $(LINKER) --results build/fuzz/results.jsonl --shrink build/fuzz

CLIENTS := $(if $(PYTENSOR),--pytensor $(PYTENSOR)) $(if $(PYMC),--pymc $(PYMC)) \
  $(if $(PTGP),--ptgp $(PTGP)) $(if $(PYMC_EXTRAS),--pymc-extras $(PYMC_EXTRAS))
test-clients: $(STAMP)
	$(ONE_THREAD) $(BIN)/python scripts/test_clients.py $(CLIENTS) -- $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/lint-imports --no-cache

types: $(STAMP)
	$(BIN)/python -m mypy

docs: $(STAMP)
	$(BIN)/python -m mkdocs build --strict --quiet

bench: $(STAMP)
	$(BIN)/python benchmarks/regret.py

lock: $(STAMP)
	$(BIN)/uv pip compile --universal --python $(BIN)/python --all-extras --upgrade --quiet \
	  --custom-compile-command "make lock" --output-file requirements.lock pyproject.toml

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
