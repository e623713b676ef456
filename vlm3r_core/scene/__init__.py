"""Spatial truth in plain numpy: no torch, no model."""
