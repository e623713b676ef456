"""Weights in files, published layouts and our own: read safely, and reported completely where they do not fit."""
