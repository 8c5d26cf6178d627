"""Running a Plan: what it will need, the reference interpreter, and the fast executor."""
