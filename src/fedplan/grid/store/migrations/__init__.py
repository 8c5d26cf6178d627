"""The schema's history. `versions` holds one module a change; `engine.migrate` runs them at start-up."""
