"""What a training run is made of: weights to start from, optimiser, processes, log, export. Named runs: config.py."""
