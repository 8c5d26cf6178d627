"""What came of a simulation."""

import html
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from fedplan.client.model import SyftModel
from fedplan.errors import ConfigError
from fedplan.simulation.deployment import Deployment
from fedplan.simulation.history import SimulatedHistory, SimulatedRow
from fedplan.simulation.rounds import RunState
from fedplan.wire.messages import EVALUATION_PLAN

_ROWS_SHOWN = 10


class Simulation:
    """What came of a simulation; `simulate` returns one.

    Attributes:
        interrupted: whether Ctrl-C ended it early.
        engine: the name of the engine that computed it.
    """

    def __init__(
        self, deployment: Deployment, progress: RunState, engine: str, *, interrupted: bool = False
    ) -> None:
        """See `simulate`. Of a run it holds the history and the newest checkpoint, and nothing of clients.

        Args:
            deployment: what was simulated.
            progress: how far the run came.
            engine: the name of the engine that computed it.
            interrupted: see above.
        """
        self.interrupted = interrupted
        self.engine = engine
        self._deployment = deployment
        self._rows, self._changing = progress.rows, progress.model

    @property
    def history(self) -> SimulatedHistory:
        """What came of each cycle; see `SimulatedRow`."""
        return SimulatedHistory(self._rows)

    @property
    def model(self) -> SyftModel:
        """The newest checkpoint; `load_into` copies it into an `nn.Module`."""
        return self._deployment.whole(self._changing)

    def hosting(self) -> dict[str, Any]:
        """The arguments with which `ModelCentricFLClient.host_federated_training` hosts what was simulated:
        the model as it was before the first cycle. To go on from the trained one, put ``result.model`` in its
        place.
        """
        return dict(self._deployment.hosting)

    def to_pandas(self) -> Any:
        """The history as a `pandas.DataFrame`, with the cycle as its index.

        Raises:
            ConfigError: pandas is not installed.
        """
        return self.history.to_pandas()

    def plot(self, *metrics: str) -> Any:
        """Draws metrics by cycle.

        Args:
            *metrics: their names; those of the test by default, and all if there are none.

        Returns:
            The `matplotlib` Axes.

        Raises:
            ConfigError: matplotlib is not installed, no cycle has such a metric, or there is none at all.
        """
        history = self.history
        names = metrics or main_metrics(history)
        if not names:
            raise ConfigError(
                f"nothing was measured, so there is nothing to draw: simulate with a Plan "
                f"'{EVALUATION_PLAN}', or with a training Plan that returns a loss"
            )
        curves = {name: history.values(name) for name in names}
        axes = new_axes()
        for name, values in curves.items():
            axes.plot(list(values), list(values.values()), label=name)
        axes.set_xlabel("cycle")
        axes.legend()
        return axes

    def __repr__(self) -> str:
        rows = self._rows
        told = [f"{len(rows)} cycles", *(_shown(rows[-1]) if rows else ())]
        if rows:
            told.append(f"{sum(row.seconds for row in rows):.3g} s")
        told.append(f"engine {self.engine}")
        if self.interrupted:
            told.append("interrupted")
        return f"<Simulation of '{self._deployment.name}' {self._deployment.version}: {', '.join(told)}>"

    def _repr_html_(self) -> str:
        history = self.history
        names = ["cycle", "reports", "samples", "report_bytes", *history.metrics]
        rows = [{name: row[name] for name in names} for row in history.to_dicts()[-_ROWS_SHOWN:]]
        return f"<p>{html.escape(repr(self))}</p>{html_table(rows)}"


def new_axes() -> Any:
    """An empty picture.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        pyplot = importlib.import_module("matplotlib.pyplot")
    except ImportError:
        raise ConfigError("a picture needs matplotlib: pip install matplotlib") from None
    return pyplot.subplots()[1]


def main_metrics(history: SimulatedHistory) -> list[str]:
    """The metrics that tell most: those of the test, or all."""
    names = history.metrics
    return [name for name in names if name.startswith("test_")] or names


def _shown(row: SimulatedRow) -> list[str]:
    """A few metrics of a cycle, in words."""
    named = {name: metric.value for name, metric in row.metrics.items()}
    tests = {name: value for name, value in named.items() if name.startswith("test_")}
    return [f"{name} {value:.4g}" for name, value in (tests or named).items()]


def html_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same names as a table for notebooks."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in next(iter(rows), {}))
    lines = ("".join(f"<td>{_cell(value)}</td>" for value in row.values()) for row in rows)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.5g}" if isinstance(value, float) else html.escape(str(value))
