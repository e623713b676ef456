"""The parts of a furnished flat: floor plan, furniture, looks, files. sim.rooms puts them together."""
