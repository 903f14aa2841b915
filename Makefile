# Every target works from any state: it creates .venv when it is missing or out of date.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A file's tests stay in one process; each process computes on one thread, for its neighbours' sake.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile
LIGHT := notebooks/00_start_here.ipynb \
	notebooks/01_dropout_needs_many_steps.ipynb \
	notebooks/02_zero_start_flattens_the_landscape.ipynb \
	notebooks/03_one_scale_ripples_through_depth.ipynb \
	notebooks/04_dropout_makes_gradients_noisy.ipynb \
	notebooks/05_meet_the_adapters.ipynb \
	notebooks/06_norms_escape_from_zero.ipynb \
	notebooks/07_allora_against_the_field.ipynb \
	notebooks/08_giving_ranks_where_they_help.ipynb \
	notebooks/09_what_reproduced.ipynb \
	notebooks/10_take_it_to_your_model.ipynb
HEAVY :=

.DEFAULT_GOAL := help
.PHONY: help install demo test fuzz test-browser lab bench pages notebooks site binder gpu lint clean

help:  ## Show this list.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "==> installing allora_lab and what it needs into $(VENV)"
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[notebooks,hub,test,bench,browser,docs]"
	@touch $@

install: $(VENV)/.installed  ## Create .venv and install everything, pinned by constraints.txt.

demo: install  ## Fine-tune MiniLM with LoRA and ALLoRA; watch their norms escape from zero.
	@echo "==> training seven short fine-tunes (two to four minutes on two cores)"
	$(BIN)/allora-lab demo

test: install lint  ## ruff, pytest, strict nbval on light notebooks, lax on heavy ones.
	@echo "==> pytest"
	$(PYTEST)
	@echo "==> nbval, strict: every stored output must come out again"
	$(PYTEST) -p no:cacheprovider --nbval --nbval-current-env --nbval-cell-timeout 300 $(LIGHT)
	@if [ -n "$(HEAVY)" ]; then echo "==> nbval, lax: the heavy notebooks must run" && \
	$(PYTEST) -p no:cacheprovider --nbval-lax --nbval-current-env --nbval-cell-timeout 600 $(HEAVY); fi

fuzz: install  ## Malformed flags, files and folders for a long time; each must give one sentence.
	@echo "==> fuzz (an hour or more)"
	ALLORA_LAB_FUZZ=long $(PYTEST) -o timeout=0 tests/fuzz

test-browser: install  ## Run every notebook in JupyterLab and move every control, in Chromium.
	@echo "==> notebooks in the browser (pictures of their panels go to out/screenshots)"
	$(BIN)/python -m pytest -q -m browser tests/browser

lint: install
	@echo "==> ruff"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lab: install  ## Open JupyterLab on the first notebook.
	@echo "==> opening JupyterLab on notebooks/00_start_here.ipynb (Ctrl-C stops it)"
	$(BIN)/jupyter lab $$([ "$$(id -u)" -ne 0 ] || echo --allow-root) --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb

# `results/cost/` has records of its own: step.py and allocation.py say how they are made.
bench: install  ## Run the benchmarks and write their records into results/benchmarks.
	@echo "==> benchmarks"
	$(BIN)/python benchmarks/throughput.py --json results/benchmarks/throughput.json
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/gradient_variance.py --json results/benchmarks/gradient-variance.json
	$(BIN)/python benchmarks/scores.py --json results/benchmarks/scores.json
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/panels.py --json results/benchmarks/panels.json
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/allocation.py --dataset rotten_tomatoes_rated --rounds 1

pages: install  ## Write the tables and measured numbers of README and docs/ from the records.
	$(BIN)/allora-lab pages

notebooks: install  ## Re-execute and normalise the notebooks.
	@echo "==> executing the notebooks"
	$(BIN)/python notebooks/execute.py

site: install  ## Build the notebooks and the API as pages in out/site, and check their links.
	@echo "==> building out/site"
	rm -rf out/site
	$(BIN)/sphinx-build -W --keep-going -q -c docs/site -d out/doctrees . out/site
	$(BIN)/python -m pytest -q -m site tests/static_site
	@echo "==> open out/site/index.html"

binder: install  ## What each notebook takes of Binder's one CPU and 2 GB, live runs included.
	@echo "==> running the notebooks as on Binder (a quarter of an hour)"
	bash binder/start $(BIN)/python binder/measure.py --json results/benchmarks/binder.json

gpu: install  ## Steps, memory and speed on a CUDA GPU, beside PEFT; writes results/cost/gpu.json.
	$(BIN)/python benchmarks/gpu.py --json results/cost/gpu.json

clean:  ## Remove .venv and caches.
	rm -rf $(VENV) .pytest_cache .ruff_cache
