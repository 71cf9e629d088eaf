# Each target sets itself up in its own virtual environment. README.md writes the commands out.
PYTHON ?= python3
VENV ?= .venv

.PHONY: demo test test-slow lint bench

demo: $(VENV)/.installed
	$(VENV)/bin/python examples/demo/demo.py

test: $(VENV)/.installed-test
	$(VENV)/bin/python -m pytest

test-slow: $(VENV)/.installed-test
	$(VENV)/bin/python -m pytest -m slow

bench: $(VENV)/.installed
	$(VENV)/bin/papez bench --dtype float32 bfloat16 --train --baseline benchmarks/authors_papez.py:AllSteps --json results/bench/bench.json --markdown results/bench/bench.md --figure results/bench/bench.png --overwrite

lint: $(VENV)/.installed-test
	$(VENV)/bin/ruff check .

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "$(PYTHON): Python 3.10 or newer is needed; name one: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

$(VENV)/.installed: requirements.txt pyproject.toml | $(VENV)/bin/pip
	$(VENV)/bin/pip install -r requirements.txt -e '.[torch,onnx]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(VENV)/bin/pip install -e '.[torch,test]'
	@touch $@
