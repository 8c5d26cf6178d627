"""A model's history for tools that track experiments: TensorBoard and MLflow."""

import contextlib
import importlib
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from fedplan.errors import ConfigError
from fedplan.wire.messages import HistoryRow

_NOT_IN_MLFLOW = re.compile(r"[^\w\-. /]")
"""Characters that MLflow takes in no name of a metric."""


def write_tensorboard(rows: Sequence[HistoryRow], folder: str | os.PathLike[str]) -> None:
    """Writes each metric as a scalar over the cycles, with the times at which the cycles closed."""
    try:
        summary = importlib.import_module("tensorboard.summary")
    except ImportError:
        raise ConfigError("TensorBoard is not installed: pip install 'fedplan[tensorboard]'") from None
    with contextlib.closing(summary.Writer(os.fspath(folder))) as writer:
        for row in rows:
            for name, value in _values(row):
                writer.add_scalar(name, value, row.cycle, wall_time=row.closed_at.timestamp())


def log_mlflow(
    rows: Sequence[HistoryRow], experiment: str, run_name: str | None, tracking_uri: str | None
) -> str:
    """Logs each metric over the cycles as one run of an experiment; returns the run's id."""
    try:
        mlflow: Any = importlib.import_module("mlflow")
    except ImportError:
        raise ConfigError("MLflow is not installed: pip install 'fedplan[mlflow]'") from None
    client = mlflow.MlflowClient(tracking_uri)
    known = client.get_experiment_by_name(experiment)
    id = client.create_experiment(experiment) if known is None else known.experiment_id
    run: str = client.create_run(id, run_name=run_name).info.run_id
    for row in rows:
        time = int(row.closed_at.timestamp() * 1000)
        for name, value in _values(row):
            client.log_metric(run, _NOT_IN_MLFLOW.sub("_", name), value, timestamp=time, step=row.cycle)
    client.set_terminated(run)
    return run


def _values(row: HistoryRow) -> Iterator[tuple[str, float]]:
    yield from ((name, metric.value) for name, metric in row.metrics.items())
    yield from (("reports", row.reports), ("samples", row.samples), ("workers", row.workers))
