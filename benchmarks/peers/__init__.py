"""The same task by fedplan and by other simulators: `scripts/bench --peers`."""
