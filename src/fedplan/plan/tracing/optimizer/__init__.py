"""Optimizers inside a Plan."""
