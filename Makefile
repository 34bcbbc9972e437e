# `make demo` and `make test` each work on a fresh machine: Python 3.11, make, gcc and the package registries.

PYTHON ?= python3
BIN := .venv/bin
OUT ?= runs/demo

.PHONY: demo test test-all lint docs clean

# CPU builds of PyTorch on Linux x86 come by this exact version; an open range would pull gigabytes of CUDA.
.venv/ready: pyproject.toml Makefile
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --upgrade pip
	$(BIN)/pip install -q torch==2.13.0
	$(BIN)/pip install -q -e '.[dev]'
	touch $@

demo: .venv/ready  ## train the default recipe on the embedded Fashion sample for three minutes
	$(BIN)/limner train fashion --minutes 3 --out $(OUT)
	$(BIN)/limner sample $(OUT) --label all -n 80 --out $(OUT)/classes.png
	@echo "Look at $(OUT)/preview.png, $(OUT)/classes.png and $(OUT)/progress.webp."

# The pages lie in build/docs as they lie in the repository, so that their links hold on both.
docs: .venv/docs  ## build the documentation into site/; fails on a broken link
	rm -rf build/docs && mkdir -p build/docs/benchmarks
	cp -r README.md CONTRIBUTING.md CHANGELOG.md docs examples build/docs
	cp benchmarks/README.md build/docs/benchmarks
	$(BIN)/zensical build --strict --clean

.venv/docs: .venv/ready
	$(BIN)/pip install -q --group docs
	touch $@

# Pages are tested in Debian's Chromium; where it cannot be installed, those tests are skipped and say so.
.venv/chromium: .venv/ready
	@command -v chromium > /dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq chromium > /dev/null; } \
	  || echo "The tests of pages in a browser are skipped: install Debian's package chromium for them."
	@touch $@

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint docs .venv/chromium  ## everything that must pass, in under 12 minutes on 2 cores
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n 2

test-all: lint docs .venv/chromium  ## the slow ones too
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

clean:
	rm -rf .venv runs dist build site
