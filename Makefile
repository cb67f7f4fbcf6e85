# Every target creates and uses .venv. See README.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install browser demo test lint bench bench-train models reproduce docs compat clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,parser,ray,tensorboard,docs]"
	touch $(STAMP)

# Chromium for the browser tests, which skip without one.
browser: install
	$(BIN)/python tests/browser/get_chromium.py

demo: install
	rm -rf demo
	$(BIN)/tslens demo --out demo

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --ignore tests/unit/test_ray.py
	$(BIN)/python -m pytest tests/unit/test_ray.py

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install
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
