"""The parts of training.tiny: how a budget is shared out, the steps, and what runs them."""
