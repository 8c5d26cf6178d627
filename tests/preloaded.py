"""What the process imports of which `tests.processes` makes forks."""

import gc

import fedplan.cli.main
import fedplan.client
import fedplan.grid.serving.processes.child
import fedplan.grid.serving.server
import fedplan.simulation  # noqa: F401

gc.collect()
gc.freeze()
