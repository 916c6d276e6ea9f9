# `make install` first makes .venv; demo and test depend on it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test docs nightly package lint bench bench-reference results clean

install: $(STAMP)

# PyTorch goes first and pinned: left to itself, pip would fetch the newest CUDA build.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e ".[all,dev]"
	touch $(STAMP)

demo: install
	$(BIN)/manyview demo demo --overwrite

test: install
	$(BIN)/python -m pytest -n auto --dist worksteal

# The site, in build/site; a link, anchor or name that leads nowhere is an error (--quiet would hide it from --strict).
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

# The same tests on the versions that machines with a card have: the oldest PyTorch and Triton, the newest NumPy.
CARD_PYTHON ?= python3.12
CARD := .venv-card
nightly:
	test -x $(CARD)/bin/python || $(CARD_PYTHON) -m venv $(CARD)
	grep -vE '^(torch|numpy)==' constraints.txt | cat constraints-card.txt - > $(CARD)/constraints.txt
	$(CARD)/bin/pip install --quiet -c $(CARD)/constraints.txt torch triton
	$(CARD)/bin/pip install --quiet -c $(CARD)/constraints.txt -e ".[all,dev]"
	$(CARD)/bin/python -m pytest -n auto --dist worksteal

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

# What users get: the sdist, the wheel made from it, and that wheel in an environment of its own, outside the checkout.
package: install
	set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$(BIN)/python -m hatchling build -t sdist -d $$folder; \
	$(BIN)/pip wheel --quiet --no-deps --no-build-isolation -w $$folder $$folder/*.tar.gz; \
	$(PYTHON) -m venv $$folder/env; \
	$$folder/env/bin/pip install --quiet --no-compile -c constraints.txt $$folder/*.whl; \
	cd $$folder; env/bin/manyview --version; env/bin/manyview doctor; env/bin/manyview demo demo

# Tables of docs/benchmarks for a CPU, in under ten minutes on four cores with nothing else running.
BENCH_OUT ?= bench-cpu
bench: install
	$(BIN)/python -m tools.bench --model manyview-small --accel all --twin --frames 8 64 --decode --export --time-limit 300 \
		--out $(BENCH_OUT)/small --overwrite
	$(BIN)/python -m tools.bench --model vggt-1b-random --size 518 392 --twin --frames 1 2 --runs 2 --long-pass 4 \
		--rounds 1 --time-limit 220 --out $(BENCH_OUT)/vggt-1b --overwrite
	$(BIN)/python -m tools.bench --model da3-base-random --size 504 336 --twin --frames 1 4 --runs 3 --rounds 2 \
		--out $(BENCH_OUT)/da3-base --overwrite

# The reference implementation beside dense attention: 9 minutes on two cores with nothing else running.
REFERENCE = $(BIN)/python -m tools.bench --model vggt-1b-random --twin --accel dense --rounds 1 --no-plot --overwrite
bench-reference: install
	$(REFERENCE) --size 322 252 --frames 2 --precision fp32 --runs 2 --long-pass 100 --out $(BENCH_OUT)/322x252-fp32
	$(REFERENCE) --size 322 252 --frames 2 --precision bf16 --runs 3 --long-pass 100 --out $(BENCH_OUT)/322x252-bf16
	$(REFERENCE) --size 196 154 --frames 12 --precision bf16 --runs 2 --long-pass 100 --out $(BENCH_OUT)/196x154-bf16
	$(REFERENCE) --size 196 154 --frames 12 --precision fp32 --long-pass 10 --out $(BENCH_OUT)/196x154-fp32

results: install
	$(BIN)/python -m tools.results.procedural

clean:
	rm -rf demo build/site .pytest_cache .mypy_cache .ruff_cache
