"""How a worker trains with a Plan: batches, steps, checkpoints, and the report's form."""
