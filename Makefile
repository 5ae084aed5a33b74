# make run    train the digits network on a coordinator and two providers of this machine; what it writes is in out/
# make test   the whole test suite
# make bench  the benchmarks, printed as tables; all of them take most of an hour
# make lint   ruff, mypy, import-linter
# make clean  remove what these made, the virtual environment too
#
# PYTHON=... chooses the interpreter; else the first one that runs and is new enough.

BIN := .venv/bin
STAMPS := .venv/stamps
METADATA := setup.py pyproject.toml
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: run test bench lint clean

run: $(STAMPS)/examples
	@mkdir -p out
	cd out && ../$(BIN)/python ../examples/cnn_digits.py

# Whole systems that are killed and waited for have the cores to themselves; the other tests share them.
test: $(STAMPS)/development
ifdef TESTS
	$(BIN)/python -m pytest $(TESTS)
else
	$(BIN)/python -m pytest -n 2 tests/unit tests/contract tests/integration
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/e2e -m "not alone"
	$(BIN)/python -m pytest tests/e2e -m alone
endif

bench: $(STAMPS)/benchmarks
	$(BIN)/python -m benchmarks

lint: $(STAMPS)/development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf .venv out build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# A command may exist and still not run (pyenv's shims do that), so each candidate is tried.
$(STAMPS)/venv:
	@for python in "$(PYTHON)" python3.13 python3.12 python3.11 python3 python; do \
	  if [ -n "$$python" ] && "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "creating .venv with $$($$python --version)"; \
	    "$$python" -m venv .venv || exit 1; \
	    mkdir -p $(STAMPS) && touch $@ && exit 0; \
	  fi; \
	done; \
	echo "Python 3.11 or newer is needed: install it, or call make PYTHON=/path/to/python" >&2; exit 1

# Installed editable, so that a change of the code needs no new installation; only one of the metadata does.
$(STAMPS)/%: $(STAMPS)/venv $(METADATA)
	@echo "installing Ravenverse and what it needs into .venv; the first time this takes a few minutes …"
	$(INSTALL) --editable ".[$*]"
	@touch $@
