# Every target works from a bare checkout; `make setup` runs by itself when it is needed.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.complete

.PHONY: help setup demo demo-continue reproduce test test-slow test-docs test-mutants test-openmmlab test-newest setup-detection test-detection setup-peers \
	docs weak-supervision lint format clean

help:
	@echo "make setup      build $(VENV) with the pinned stack"
	@echo "make demo       MAE -> graft -> evaluation on Fashion-MNIST: a table and a picture"
	@echo "make demo-continue  public weights go on learning on CIFAR-10: what they gain and forget, in a picture"
	@echo "make reproduce  the papers' claim on CIFAR-10: tables and figures in docs/ (minutes to hours, resumable)"
	@echo "make test       the test suite"
	@echo "make test-slow  the long tests"
	@echo "make test-docs  run every command of README and docs, on small models"
	@echo "make test-mutants  errors put into the mathematics: do its tests fail? (hours, resumable)"
	@echo "make weak-supervision   MAE -> noisy hashtags on Fashion-MNIST: the rows of docs/weak_supervision.md"
	@echo "make test-openmmlab  a part of the suite on the original OpenMMLab packages, in an environment of its own"
	@echo "make test-newest  the main commands in an environment with the newest transformers, timm, numpy and torch"
	@echo "make test-detection  Mask R-CNN on drawn pictures, in an environment with mmdetection"
	@echo "make setup-peers  an environment with lightly and stable-pretraining, for python -m benchmarks.peers"
	@echo "make docs       the pages and the API, in docs/_build/html"
	@echo "make lint       ruff and shell syntax"

setup: $(READY)

$(READY): requirements/pinned.txt requirements/runtime.txt requirements/tests.txt setup.py requirements/setup_env.sh
	bash requirements/setup_env.sh $(PYTHON)

demo: $(READY)
	$(RUN) -m experiments.demo

demo-continue: $(READY)
	$(RUN) -m experiments.continuing.demo

# the small size if there is no GPU; more: python -m experiments.cifar10 --help
reproduce: $(READY)
	$(RUN) -m experiments.cifar10

test: $(READY)
	$(RUN) -m pytest -n 2 -m "not slow and not docs" tests

test-slow: $(READY)
	$(RUN) -m pytest -m slow -o timeout=14400 tests

test-docs: $(READY)
	$(RUN) -m pytest -n 2 tests/docs

# a part: make test-mutants MUTANTS="mm_graft/depth.py --sample 50"; survivors again, after new tests: MUTANTS=--again
test-mutants: $(VENV)/.mutants
	OMP_NUM_THREADS=1 $(RUN) tests/mutation $(MUTANTS)

$(VENV)/.mutants: $(READY) requirements/mutants.txt
	$(VENV)/bin/pip install --disable-pip-version-check -q -r requirements/mutants.txt
	touch $@

weak-supervision: $(READY)
	$(RUN) -m experiments.wsp

# what the originals cannot do with this torch is left out: import mmseg without compiled operators, resume
test-openmmlab: .venv-openmmlab/.complete
	.venv-openmmlab/bin/python -m pytest -n 2 -m "not slow and not docs" \
		-k "not mmseg and not segment and not upernet and not resum" \
		tests/parity tests/models tests/checkpoints tests/engine tests/test_depth.py tests/test_graft_configs.py \
		--ignore tests/engine/reliability/test_rng_state_hook.py --ignore tests/engine/hooks/test_safe_checkpoint_hook.py \
		--ignore tests/engine/reliability/test_preemption_hook.py

.venv-openmmlab/.complete: requirements/openmmlab.txt requirements/runtime.txt requirements/tests.txt
	bash requirements/setup_env.sh $(PYTHON) .venv-openmmlab requirements/openmmlab.txt

# the main commands beside the newest transformers, timm, numpy and torch
test-newest: .venv-newest/.complete
	.venv-newest/bin/python -m mm_graft inspect doctor
	.venv-newest/bin/python -m pytest -n 2 -m "not docs" \
		tests/commands/start tests/commands/test_train.py tests/commands/test_evaluate.py \
		tests/commands/test_analyze.py tests/commands/test_convert.py tests/commands/test_embedding.py \
		tests/commands/test_environment.py tests/test_pretrained.py tests/test_registry.py tests/host

.venv-newest/.complete: requirements/newest.txt requirements/runtime.txt requirements/tests.txt
	bash requirements/setup_env.sh $(PYTHON) .venv-newest requirements/newest.txt

# mmdetection beside the pinned stack, which its own requirements would downgrade
setup-detection: .venv-detection/.complete

.venv-detection/.complete: requirements/pinned.txt requirements/runtime.txt requirements/tests.txt \
		requirements/detection_no_deps.txt requirements/detection_deps.txt
	bash requirements/setup_env.sh $(PYTHON) .venv-detection
	rm $@
	.venv-detection/bin/pip install --disable-pip-version-check -q --no-deps -r requirements/detection_no_deps.txt
	.venv-detection/bin/pip install --disable-pip-version-check -q -r requirements/detection_deps.txt \
		-c requirements/pinned.txt
	touch $@

test-detection: .venv-detection/.complete
	.venv-detection/bin/python -m pytest tests/detection tests/host/test_mmcv_operators.py tests/test_recipes.py

# lightly and stable-pretraining on top of the pinned stack
setup-peers: .venv-peers/.complete

.venv-peers/.complete: $(READY) requirements/peers.txt requirements/setup_peers.sh
	bash requirements/setup_peers.sh $(VENV)

docs: $(VENV)/.docs
	$(RUN) -m sphinx -q -W --keep-going -b html -c docs . docs/_build/html
	@echo "docs/_build/html/docs/index.html"

$(VENV)/.docs: $(READY) requirements/docs.txt
	$(VENV)/bin/pip install --disable-pip-version-check -q -r requirements/docs.txt
	touch $@

lint: $(READY)
	$(VENV)/bin/ruff check .
	@for script in $$(git ls-files '*.sh' .ci/run); do bash -n $$script || exit 1; done

format: $(READY)
	$(VENV)/bin/ruff check --fix .

clean:
	rm -rf build dist *.egg-info work_dirs/demo work_dirs/demo_continue docs/_build docs/api
