"""The grid: hosts models and Plans, runs cycles, averages diffs into checkpoints.

Its names are loaded when they are first used. What starts and watches the processes of a grid loads none of
what these do.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedplan.grid.app import create_app
    from fedplan.grid.serving.processes.parent import serve_in_processes
    from fedplan.grid.serving.server import serve
    from fedplan.grid.settings import Settings

__all__ = ["Settings", "create_app", "serve", "serve_in_processes"]

_HOME = {
    "Settings": "fedplan.grid.settings",
    "create_app": "fedplan.grid.app",
    "serve": "fedplan.grid.serving.server",
    "serve_in_processes": "fedplan.grid.serving.processes.parent",
}
"""The module of each name."""

if not TYPE_CHECKING:  # else a type checker would take any name for one of the package

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module 'fedplan.grid' has no attribute '{name}'", name=name)
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value  # the next use finds it directly
        return value


def __dir__() -> list[str]:
    return __all__
