"""A worker in secure rounds: what it sends a grid, waits for and refuses."""
