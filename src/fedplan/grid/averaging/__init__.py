"""Averaging: the one part of the grid that adds reports up and changes models."""
