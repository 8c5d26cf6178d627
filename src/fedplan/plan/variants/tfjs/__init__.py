"""The tfjs variant of Plans: what browsers run.

`translate` says a graph in tfjs's vocabulary, `interpreter` runs it as syft.js would.
"""
