# Every target creates and uses .venv. See README.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
TORCH := "$$(grep '^torch==' constraints.txt)"

.PHONY: install browser demo test test-faults lint bench bench-load bench-train models reproduce docs compat clean

install: $(STAMP)

# Hashes are checked of all but torch. What builds packages comes first, so that no build fetches anything; the second
# line for torch brings what only its builds for GPUs need. Compiled is by all processors, where pip takes one; some
# files of packages are for other versions of Python. The mode of installation puts this folder on Python's path: else a
# script beside a clone that is named tslens would import the clone's folder.
$(STAMP): pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(PIP) --no-deps --no-compile $(TORCH)
	sed -n '/^setuptools==/,/[^\\]$$/p' constraints.txt > $(VENV)/build.txt
	$(PIP) --no-deps --require-hashes -r $(VENV)/build.txt
	$(PIP) --no-deps --no-compile --require-hashes --no-build-isolation -r constraints.txt
	$(PIP) --no-deps --no-build-isolation --config-settings editable_mode=compat -e .
	$(PIP) $(TORCH)
	$(BIN)/python -m pip check
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib tslens || true
	touch $(STAMP)

# Chromium for the browser tests, which skip without one.
browser: install
	$(BIN)/python tests/browser/get_chromium.py

demo: install
	rm -rf demo
	$(BIN)/tslens demo --out demo

# Four processes for two cores: many tests wait.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder --ignore tests/unit/test_ray.py
	$(BIN)/python -m pytest tests/unit/test_ray.py

# All cases of the faults of which make test tries a sample: kills, full disks, broken files, hostile servers.
test-faults: install
	TSLENS_FAULTS=full OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --timeout 7200 tests/faults

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install
	$(BIN)/python tests/bench/bench_import.py
	$(BIN)/python tests/bench/bench_scan.py
	$(BIN)/python tests/bench/bench_neurons.py
	$(BIN)/python tests/bench/bench_memory.py
	$(BIN)/python tests/bench/bench_author.py
	$(BIN)/python tests/bench/bench_diversity.py
	$(BIN)/python tests/bench/bench_client.py
	$(BIN)/python tests/bench/bench_grades.py
	$(BIN)/python tests/bench/bench_resume.py
	$(BIN)/python tests/bench/bench_generate.py
	$(BIN)/python tests/bench/bench_ablate.py

# Large corpora and the memory that they take: hours; it goes on where it was stopped.
bench-load: install
	$(BIN)/python tests/bench/bench_load.py --keep bench-load

# Time to the same loss against GPT-Neo of transformers: two hours on a quiet machine; it goes on where it was stopped.
bench-train: install
	$(BIN)/python tests/bench/bench_train.py

# The shipped models, from the real stories in $$TSLENS_DATA: hours; it goes on where it was stopped.
models: install
	$(BIN)/python training/make_models.py

# The paper again, trainings and studies, at a budget (cpu, gpu, paper): it goes on where it was stopped.
BUDGET ?= cpu
reproduce: install
	$(BIN)/python analysis/reproduce.py --budget $(BUDGET) --out reproduced-$(BUDGET)

# The documents as a site of files: open site/index.html.
docs: install
	$(BIN)/python docs/make_commands.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# A second environment with version 3.9 of TransformerLens, then one checkpoint in all four libraries.
compat: install .venv-tl3/.installed
	TSLENS_TL3_PYTHON=.venv-tl3/bin/python $(BIN)/python -m pytest -m "" tests/parity/test_four_libraries.py

.venv-tl3/.installed: tests/parity/constraints-tl3.txt
	test -d .venv-tl3 || $(PYTHON) -m venv .venv-tl3
	.venv-tl3/bin/python -m pip install --quiet --disable-pip-version-check -r tests/parity/constraints-tl3.txt
	touch .venv-tl3/.installed

clean:
	rm -rf $(VENV) .venv-tl3 build *.egg-info
