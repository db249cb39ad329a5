# Two commands: `make demo`, four minutes on two CPU cores, and `make test`, fifteen, each after installing once. Everything
# is installed into .venv; nothing system-wide.
PYTHON ?= python3
BIN := .venv/bin
# A CPU-only JAX is enough for both; PyTorch is what tests compare with. On Linux, PyPI's comes with CUDA; without it:
#     PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make test TORCH=torch==2.13.0+cpu
TORCH ?= torch==2.13.0

.PHONY: demo test tpu-compile tpu-scaling gpu-compile flags clean

.venv/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	touch $@

.venv/train: .venv/python pyproject.toml
	@echo "Installing JAX and TensorFlow into .venv, once"
	$(BIN)/pip install --quiet -e '.[train]'
	touch $@

.venv/dev: .venv/train
	@echo "Installing PyTorch and what checks and tests need into .venv, once"
	$(BIN)/pip install --quiet '$(TORCH)'
	$(BIN)/pip install --quiet -e '.[train,torch,dev]'
	touch $@

demo: .venv/train
	@echo "Training for 400 steps, then scoring: about four minutes on two CPU cores"
	$(BIN)/python train.py --config configs/quickstart.py --workdir runs/demo
	$(BIN)/python eval.py --weights runs/demo --datasets held_out --inference tile --save_images --output runs/demo/eval
	$(BIN)/python eval.py --scale 2 --datasets held_out --inference tile --compare "trained just now=runs/demo/eval/results.json" --output runs/demo/bundled
	@echo "Look at runs/demo/eval/strips/held_out/astronaut.png, and for the weights that come with the package at runs/demo/bundled/report.html"

test: .venv/dev
	@echo "Every check and test: about fifteen minutes on two CPU cores"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses=logical --maxprocesses=4 --dist=worksteal  # processes take gigabytes each

# What the compiler for TPUs says of the training step, with no TPU at hand:
#     make tpu-compile ARGS="--config configs/tpu_pod.py --topology v5e:16x16 --chip_batch 16"
.venv-tpu/ready: pyproject.toml
	$(PYTHON) -m venv .venv-tpu
	.venv-tpu/bin/pip install --quiet --upgrade pip
	.venv-tpu/bin/pip install --quiet -e '.[tpu]'
	touch $@

tpu-compile: .venv-tpu/ready
	.venv-tpu/bin/python -m benchmarks.tpu_compile $(ARGS)

# How it grows from 4 chips to 512; a compilation for each row.
tpu-scaling: .venv-tpu/ready
	.venv-tpu/bin/python -m benchmarks.tpu_scaling $(ARGS)

# Of how many kernels the step is on a GPU, with no GPU at hand: 6 GB of packages.
#     make gpu-compile ARGS="--config configs/x4.py --chip h100 --config.dtype=bfloat16"
.venv-gpu/ready: pyproject.toml
	$(PYTHON) -m venv .venv-gpu
	.venv-gpu/bin/pip install --quiet --upgrade pip
	.venv-gpu/bin/pip install --quiet -e '.[cuda12]' 'jax==0.10.*'  # whose list of what a program starts is understood
	touch $@

gpu-compile: .venv-gpu/ready
	.venv-gpu/bin/python -m benchmarks.gpu_compile $(ARGS)

# The tables of flags in docs/commands.md, written anew from the programs' parsers; a test compares them.
flags: .venv/train
	$(BIN)/python -m tests.flags

clean:
	rm -rf .venv .venv-tpu .venv-gpu
