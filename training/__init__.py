"""Training, data and evaluation; run from a checkout, not installed."""
