"""Fuzzing: no input gives a 5xx or an error that is not one of ours, takes long, or fills the memory.

A short form of it is in the usual run. `scripts/fuzz` runs the long form; see `tests.fuzz.__main__`.
"""
