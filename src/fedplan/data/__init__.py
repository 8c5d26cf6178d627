"""Data sets, loaders, samplers and transforms for workers."""
