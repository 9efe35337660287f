# make demo   trains the quickstart in both frameworks and shows both results side by side
# make test   checks the style and runs the tests
# Each sets up .venv with the pinned packages first. Another Python: make demo PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test clean

demo: .venv/requirements.txt
	rm -rf runs/demo
	$(BIN)/python se_resnext_fluid.py --config configs/quickstart.yaml --run-dir runs/demo/paddle
	$(BIN)/python se_resnext_tensorflow.py --config configs/quickstart.yaml --run-dir runs/demo/tensorflow
	$(BIN)/python -m tandem curves runs/demo/paddle runs/demo/tensorflow --output runs/demo/curves.png

test: .venv/requirements-dev.txt
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

# The copy of a requirements file in .venv says that it has been installed as it is now.
.venv/%.txt: %.txt requirements-common.txt requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11 to 3.13 is needed, not " + sys.version.split()[0] + ": make $(MAKECMDGOALS) PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $<
	cp $< $@

clean:
	rm -rf .venv runs
