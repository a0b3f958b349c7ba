# Set up, run and check mmduet with python3 and make only; `make` lists the targets.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
CLIP   := outputs/demo
WORKERS ?= auto
SECONDS ?= 60
PAGE ?= 1
SEED ?= 0

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test slow fuzz lint types check docs format clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## install mmduet and its tools into .venv

demo: $(READY) $(CLIP)/.made ## narrate a rendered clip in real time, then open the live page (PAGE=0: not the page)
	$(BIN)/mmduet run "$$(ls $(CLIP)/videos/*.mp4 | head -n 1)" --realtime \
		--plot outputs/demo.png --subtitles outputs/demo.vtt --output outputs/demo.jsonl
	@if [ -t 1 ] && [ "$(PAGE)" != 0 ]; then exec $(BIN)/python -m demo.app; fi

test: $(READY) ## run the default tests in WORKERS processes (ARGS="-k layers" to choose)
	@scripts/test_packages.sh
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

slow: $(READY) ## run the slow tests
	$(BIN)/python -m pytest -m slow $(ARGS)

fuzz: $(READY) ## run the fuzz targets for SECONDS in all, from SEED on (ARGS="-k playlists" to choose)
	FUZZ_SECONDS=$(SECONDS) FUZZ_SEED=$(SEED) $(BIN)/python -m pytest -n 0 -s test/fuzz $(ARGS)

lint: $(READY) ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## check types
	$(BIN)/mypy

check: lint types test ## everything that continuous integration checks

docs: $(READY) ## regenerate the generated pages and build the documentation site in outputs/docs
	$(BIN)/python scripts/write_pages.py
	$(BIN)/zensical build --clean -f mkdocs.yml

format: $(READY) ## fix what can be fixed automatically
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the demo's output and the tools' caches
	rm -rf $(CLIP) $(addprefix outputs/demo.,png vtt jsonl) build dist *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find mmduet test -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove .venv as well
	rm -rf $(VENV)

# A stamp file: an interrupted set-up is repeated, a finished one costs nothing.
$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	@echo "Installing into $(VENV); the first time, torch takes a while."
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(CLIP)/.made: | $(READY)
	$(BIN)/mmduet scenes make $(CLIP) --split test --count 1 --seed 7
	@touch $@
