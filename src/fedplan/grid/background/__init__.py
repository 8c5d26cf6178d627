"""The tasks that run beside requests: cycles are closed, and what nothing needs is deleted."""
