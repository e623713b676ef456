"""Owns time and memory: what a stream keeps, and who may touch the model when."""
