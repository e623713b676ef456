# Each target sets up what it needs. `make demo` (a simulated room), `make demo SIM=flat:3` (or SIM=mesh_or_folder), `make demo
# CLIP=folder_or_video`, each with MODEL=spec_or_folder; `make train-tiny BUDGET_MIN=10`, `make test ARGS="-k worker"`,
# `make bench ARGS=--help`.
SHELL := bash
PYTHON ?= python3
# A sourced ROS 2 is kept; what an environment with its own ROS must not see is removed.
RUN := set -e; . .venv/vlm3r_env.sh; exec .venv/bin/python
export PYTHONUNBUFFERED := 1

.PHONY: setup demo test lint train-tiny smoke bench clean

setup:
	@$(PYTHON) bootstrap.py

demo: setup
	@$(RUN) -m vlm3r_ros.$(if $(CLIP),demo --clip "$(CLIP)",demo_sim $(if $(SIM),--world "$(SIM)")) $(if $(MODEL),--model "$(MODEL)") $(ARGS)

test: setup
	@$(RUN) -m pytest -n auto --dist loadfile $(ARGS) </dev/null

lint: setup
	@.venv/bin/ruff check . && .venv/bin/ruff format --check .

# From nothing to a small model that answers, with its scores; the same command goes on with what was stopped.
train-tiny: setup
	@$(RUN) -m training.tiny $(if $(BUDGET_MIN),--budget-min $(BUDGET_MIN)) $(ARGS)

# From flats to questions, a trained adapter and a table of scores, in minutes.
smoke: setup
	@$(RUN) -m training.smoke $(ARGS)

bench: setup
	@mkdir -p out
	@$(RUN) -m benchmarks.bench_stream $(ARGS)

clean:
	rm -rf .venv out build dist *.egg-info .pytest_cache .ruff_cache ros2_ws/build ros2_ws/install ros2_ws/log
