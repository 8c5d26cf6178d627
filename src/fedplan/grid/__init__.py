"""The grid: hosts models and Plans, runs cycles, averages diffs into checkpoints."""

from fedplan.grid.app import create_app
from fedplan.grid.serve import serve
from fedplan.grid.settings import Settings

__all__ = ["Settings", "create_app", "serve"]
