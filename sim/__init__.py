"""Closed-loop trials: worlds behind one Env protocol. Run from a checkout, not installed; needs the extra `sim`."""
