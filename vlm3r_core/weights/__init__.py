"""python -m vlm3r_core.weights: what a person does with weights: check, convert, fetch."""
