"""Graphs of operations on numbered values, and what is done to them."""
