"""Readers of published benchmarks and of our own question sets. They ask no model and score nothing."""
