"""Turning the updates of many workers into the next model."""
