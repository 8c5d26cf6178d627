"""Plans: training as a closed list of tensor operations."""
