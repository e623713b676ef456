"""Our side of Habitat: its axes, scenes prepared for it, and its walkable areas. Talks to no process."""
