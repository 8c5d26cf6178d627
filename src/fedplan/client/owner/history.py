"""History: what came of a model's cycles, as its owner sees it."""

import csv
import importlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedplan.client.owner.trackers import log_mlflow, write_tensorboard
from fedplan.errors import ConfigError
from fedplan.text import counted
from fedplan.wire.messages import HistoryReply, HistoryRow


class History(Sequence[HistoryRow]):
    """The cycles of a model that have ended, the oldest first. `ModelCentricFLClient.history` gives one.

    A row tells of one cycle: its number, the checkpoint that its workers started from, when it was open, how
    many workers, reports and samples it had, and its metrics. What workers measured of that checkpoint with
    an evaluation Plan has its own name; what they measured while they trained from it begins with
    ``training_``, such as ``training_loss``.

    Attributes:
        columns: what there is of each cycle beside its metrics.
    """

    columns: tuple[str, ...] = (
        *("cycle", "task", "checkpoint", "phase", "opened_at", "closed_at", "workers", "reports", "samples"),
        "failure",
    )

    def __init__(self, reply: HistoryReply) -> None:
        """The history that a grid told."""
        self._rows = tuple(reply.rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        return self._rows[index]

    def __iter__(self) -> Iterator[HistoryRow]:
        return iter(self._rows)

    def __repr__(self) -> str:
        last = f", the last with {self._shown(self._rows[-1])}" if self._rows else ""
        return f"<History of {counted(len(self), 'cycle')}{last}>"

    @property
    def metrics(self) -> list[str]:
        """The names of all metrics, sorted."""
        return sorted({name for row in self._rows for name in row.metrics})

    def values(self, metric: str) -> dict[int, float]:
        """A metric by cycle, where it was measured.

        Raises:
            ConfigError: no cycle has it.
        """
        found = {row.cycle: row.metrics[metric].value for row in self._rows if metric in row.metrics}
        if not found:
            known = ", ".join(self.metrics) or "none yet"
            raise ConfigError(f"no cycle has a metric '{metric}'; its metrics are: {known}")
        return found

    def to_dicts(self) -> list[dict[str, Any]]:
        """One flat dict a cycle; each metric's mean under its own name, None where it was not measured.

        Of a model with privacy there are `epsilon` (of all cycles up to this one) and `delta` too.
        """
        metrics = self.metrics
        return [
            {
                **{name: getattr(row, name) for name in self.columns},
                **self._spent(row),
                **{name: row.metrics[name].value if name in row.metrics else None for name in metrics},
            }
            for row in self._rows
        ]

    def to_csv(self) -> str:
        """The same as comma-separated values, with a line of names."""
        file = io.StringIO()
        names = [*self.columns, *self._privacy, *self.metrics]
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.to_dicts())
        return file.getvalue()

    def to_pandas(self) -> Any:
        """The same as a `pandas.DataFrame`, with the cycle as its index.

        Raises:
            ConfigError: pandas is not installed.
        """
        columns = [*self.columns, *self._privacy, *self.metrics]
        return data_frame(self.to_dicts(), columns).set_index("cycle")

    def to_tensorboard(self, folder: str | os.PathLike[str]) -> None:
        """Writes event files for TensorBoard: each metric, reports, samples and workers over the cycles.

        Args:
            folder: where they go; ``tensorboard --logdir`` reads it.

        Raises:
            ConfigError: TensorBoard is not installed (the extra `tensorboard`).
        """
        write_tensorboard(self._rows, folder)

    def to_mlflow(
        self, experiment: str, *, run_name: str | None = None, tracking_uri: str | None = None
    ) -> str:
        """Logs the same to MLflow, as one run.

        Args:
            experiment: the experiment that the run belongs to; it is made if it is not there.
            run_name: the run's name; MLflow finds one by default.
            tracking_uri: MLflow's server or database; MLflow's own setting by default.

        Returns:
            The run's id.

        Raises:
            ConfigError: MLflow is not installed (the extra `mlflow`).
        """
        return log_mlflow(self._rows, experiment, run_name, tracking_uri)

    @property
    def _privacy(self) -> tuple[str, ...]:
        """The columns about privacy, where the model has any."""
        return ("epsilon", "delta") if any(row.privacy is not None for row in self._rows) else ()

    def _spent(self, row: HistoryRow) -> dict[str, float | None]:
        return {name: getattr(row.privacy, name, None) for name in self._privacy}

    def _shown(self, row: HistoryRow) -> str:
        metrics = ", ".join(f"{name} {metric.value:.4g}" for name, metric in row.metrics.items())
        return counted(row.reports, "report") + (f", {metrics}" if metrics else "")


def data_frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> Any:
    """Rows as a `pandas.DataFrame`.

    Args:
        rows: by the names of their columns.
        columns: these names; needed where there may be no rows.

    Raises:
        ConfigError: pandas is not installed.
    """
    try:
        pandas = importlib.import_module("pandas")
    except ImportError:
        raise ConfigError("a table of pandas needs pandas: pip install pandas") from None
    return pandas.DataFrame(rows, columns=columns)
