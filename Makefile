# Each target sets up what it needs. `make demo CLIP=folder_or_video MODEL=spec_or_folder`, `make demo SIM=1` (or SIM=flat:3,
# SIM=mesh_or_folder), `make test ARGS="-k worker"`, `make bench ARGS=--help`.
SHELL := bash
PYTHON ?= python3
# A sourced ROS 2 is kept; what an environment with its own ROS must not see is removed.
RUN := set -e; . .venv/vlm3r_env.sh; exec .venv/bin/python
export PYTHONUNBUFFERED := 1

.PHONY: setup demo test lint smoke bench clean

setup:
	@$(PYTHON) bootstrap.py

demo: setup
	@$(RUN) -m vlm3r_ros.$(if $(SIM),demo_sim --world "$(SIM)",demo $(if $(CLIP),--clip "$(CLIP)")) $(if $(MODEL),--model "$(MODEL)") $(ARGS)

test: setup
	@$(RUN) -m pytest -n auto --dist loadfile $(ARGS) </dev/null

lint: setup
	@.venv/bin/ruff check . && .venv/bin/ruff format --check .

# From flats to questions, a trained adapter and a table of scores, in minutes.
smoke: setup
	@$(RUN) -m training.smoke $(ARGS)

bench: setup
	@mkdir -p out
	@$(RUN) -m benchmarks.bench_stream $(ARGS)

clean:
	rm -rf .venv out build dist *.egg-info .pytest_cache .ruff_cache ros2_ws/build ros2_ws/install ros2_ws/log
