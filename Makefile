# make demo   certifies the quickstart, trains it in both frameworks, and writes runs/demo/report.html
# make test   checks the style and runs the tests
# Each sets up .venv with the pinned packages first. Another Python: make demo PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test clean

demo: .venv/requirements.txt
	rm -rf runs/demo
	$(BIN)/python -m tandem compare configs/quickstart.yaml --output runs/demo

test: .venv/requirements-dev.txt
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

# The copy of a requirements file in .venv says that it has been installed as it is now.
.venv/%.txt: %.txt requirements-common.txt requirements.txt requirements-export.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11 to 3.13 is needed, not " + sys.version.split()[0] + ": make $(MAKECMDGOALS) PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $<
	cp $< $@

clean:
	rm -rf .venv runs
