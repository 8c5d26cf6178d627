"""A worker's place in a cycle: how it comes in, what it has there, how it leaves."""
