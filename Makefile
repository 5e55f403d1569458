# Every target works on a fresh machine: it makes .venv, installs what it needs once, and runs.
#   make demo       the bundled clip with the bundled weights: trajectory, picture, score    (out/demo)
#   make test       all tests; make test-fast leaves out the slow ones
#   make lint       ruff and mypy
#   make docs       the documentation, into out/docs (open index.html)
#   make pictures the pictures of the README and of docs/, and the outputs of the quick start
#   make bench      speed and accuracy: bundled clip, two-view solver, synthetic world
#   make clean      remove results and caches; make distclean also .venv

PYTHON ?= python3
VENV   ?= .venv
JOBS   ?= 2

BIN := $(VENV)/bin
RUN := $(BIN)/python -m
PIP := $(RUN) pip --quiet --disable-pip-version-check install --constraint constraints-cpu.txt
# a stamp holds for this folder, this python and these requirements: a .venv from elsewhere is set up anew
KEY := $(shell (pwd; $(PYTHON) --version; cat pyproject.toml constraints-cpu.txt) | cksum | cut -d' ' -f1)

.PHONY: demo test test-fast lint docs pictures bench clean distclean
.DELETE_ON_ERROR:

demo: $(VENV)/.eval-$(KEY)
	$(RUN) trianflow demo

bench: $(VENV)/.dev-$(KEY)
	for preset in accurate fast; do $(RUN) trianflow vo assets/demo.mp4 --calib assets/demo_calib.yaml \
	    --gt assets/demo_groundtruth.tum --preset $$preset --out out/bench/$$preset || exit; done
	$(BIN)/python tools/bench_two_view.py
	OMP_NUM_THREADS=1 $(BIN)/python tools/bench_synthetic.py

test: $(VENV)/.dev-$(KEY)
	OMP_NUM_THREADS=1 $(RUN) pytest -q -n $(JOBS)

test-fast: $(VENV)/.dev-$(KEY)
	OMP_NUM_THREADS=1 $(RUN) pytest -q -n $(JOBS) -m "not slow"

lint: $(VENV)/.dev-$(KEY)
	$(RUN) ruff check .
	$(RUN) mypy

docs: $(VENV)/.dev-$(KEY)
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict
	@echo "documentation in out/docs/index.html"

pictures: $(VENV)/.dev-$(KEY)
	$(BIN)/python tools/make_readme_pictures.py
	$(BIN)/python tools/make_docs_figures.py
	$(BIN)/python tools/run_notebook.py docs/quickstart.ipynb

$(VENV)/.torch-$(KEY):
	@echo "setting up $(VENV)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(PIP) torch
	@touch $@

$(VENV)/.eval-$(KEY): $(VENV)/.torch-$(KEY)
	@$(PIP) --editable '.[eval]'
	@touch $@

$(VENV)/.dev-$(KEY): $(VENV)/.torch-$(KEY)
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.eval-$(KEY)

clean:
	rm -rf out build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find trianflow tests tools -name __pycache__ -type d -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
