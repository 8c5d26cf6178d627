"""Engines by their names."""

from fedplan.errors import ConfigError
from fedplan.simulation.engines.engine import Engine
from fedplan.simulation.engines.sequential import Sequential
from fedplan.simulation.work import Experiment


def engine_of(name: str, workers: int | None, experiment: Experiment) -> Engine:
    """The engine that a user names.

    Args:
        name: see `simulate`.
        workers: how many processes; None for as many as there are cores.
        experiment: what it will compute.

    Raises:
        ConfigError: there is no such engine.
    """
    del workers, experiment
    if name not in ("auto", "sequential"):
        raise ConfigError(f"there is no engine {name!r}; there are auto and sequential")
    return Sequential()
