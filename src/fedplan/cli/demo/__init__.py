"""`fedplan demo`: a grid and its workers on one machine, each a process of its own, training on real data."""
