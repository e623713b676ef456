"""The parts of a closed-loop trial: episodes, goals, questions, the controller, the oracle. sim/run.py runs them."""
