"""Secure rounds in a simulation: the same stages, numbers and sums as on a grid, by default without masks."""
