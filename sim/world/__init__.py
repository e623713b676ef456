"""Parts of the built-in world: meshes, pictures of them, and where one can walk. No agents, no episodes."""
