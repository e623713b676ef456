"""Asking a model a benchmark's questions, scoring its answers, and the tables. training.evaluate is its command."""
