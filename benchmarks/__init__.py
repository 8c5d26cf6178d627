"""Benchmarks: both sides of every claim about speed, measured in one run. `scripts/bench --help`."""
