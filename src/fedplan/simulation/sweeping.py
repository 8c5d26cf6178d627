"""`sweep`: simulations with all combinations of some settings, each with several seeds."""

import dataclasses
import hashlib
import html
import itertools
import json
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedplan.client.counts import positive_integer
from fedplan.client.owner.history import data_frame
from fedplan.errors import ConfigError, StuckCycleError
from fedplan.plan import Plan
from fedplan.simulation.progress import Show, note_of, shown
from fedplan.simulation.result import Simulation, html_table, main_metrics, new_axes
from fedplan.simulation.run import simulate
from fedplan.simulation.settings import applied, check_grid


@dataclasses.dataclass(frozen=True, slots=True)
class SweepRun:
    """One simulation of a sweep.

    Attributes:
        settings: what was set, by name.
        seed: its seed.
        simulation: what came of it.
        failure: why it did not come to its end, as when its training diverged; None when it did.
    """

    settings: Mapping[str, Any]
    seed: int
    simulation: Simulation
    failure: str | None = None

    @property
    def label(self) -> str:
        """The settings in words: ``lr=0.1, strategy=fedadam``."""
        return ", ".join(f"{name}={_word(value)}" for name, value in self.settings.items())


def sweep(
    model: Any,
    plans: Mapping[str, Plan],
    clients: Any,
    client_config: Mapping[str, Any],
    server_config: Mapping[str, Any],
    *,
    grid: Mapping[str, Sequence[Any]],
    seeds: int | Sequence[int] = 3,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Show[SweepRun] = None,
    **options: Any,
) -> "Sweep":
    """Simulates each combination of settings with several seeds. ::

        found = fedplan.sweep(
            model, plans, clients, client_config, server_config, rounds=50, cohort=10, test=(x, y),
            grid={"lr": [0.03, 0.1, 0.3], "strategy": ["fedavg", "fedadam"]}, seeds=3,
        )
        print(found)                        # a table of means and spreads
        found.plot("test_accuracy")
        found.best("test_accuracy", "max")  # {"lr": 0.1, "strategy": "fedadam"}

    A simulation whose training diverges, so that its cycle can never close, does not end the sweep: its
    `SweepRun` has a `failure`. Ctrl-C ends it early; the simulations that were complete are returned.

    Args:
        model: see `simulate`, like the next four.
        plans: see `simulate`.
        clients: see `simulate`.
        client_config: see `simulate`.
        server_config: see `simulate`.
        grid: by name, the values of each setting: a key of the client_config or of the server_config; a
            setting of the strategy (``strategy.lr``); or an argument of `simulate`, such as ``cohort``.
        seeds: how many seeds (0, 1, 2 …), or which.
        checkpoint: a folder, in which each simulation has a folder of its own; see `simulate`. What is
            complete there is not computed again, also when the grid has grown.
        progress: as for `simulate`; a function is called with each `SweepRun`.
        options: further arguments of `simulate`, the same for all.

    Returns:
        All simulations, with tables and pictures.

    Raises:
        ConfigError: a setting is nothing that could be set, or has no value; or see `simulate`.
        FedplanError: see `simulate`.
    """
    numbers = list(seeds) if isinstance(seeds, Sequence) else list(range(positive_integer(seeds, "seeds")))
    check_grid(grid, client_config)
    if not numbers:
        raise ConfigError("seeds is empty: there would be no simulation")
    combined = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    done: list[SweepRun] = []

    def runs() -> Iterator[SweepRun]:
        for settings, seed in itertools.product(combined, numbers):
            client, server, more = applied(settings, client_config, server_config)
            folder = None if checkpoint is None else Path(checkpoint) / _folder_name(settings, seed)
            told = {**options, **more, "seed": seed, "checkpoint": folder, "progress": False}
            failure = None
            try:
                simulation = simulate(model, plans, clients, client, server, **told)
            except StuckCycleError as error:
                simulation, failure = error.simulation, str(error)
            if simulation.interrupted:
                raise KeyboardInterrupt
            yield SweepRun(settings, seed, simulation, failure)

    interrupted = False
    try:
        for run in shown(progress, runs(), "simulation", len(combined) * len(numbers), _note):
            done.append(run)
    except KeyboardInterrupt:
        interrupted = True
    return Sweep(done, interrupted=interrupted)


class Sweep:
    """What came of a sweep.

    Attributes:
        runs: its simulations.
        interrupted: whether Ctrl-C ended it early.
    """

    def __init__(self, runs: Sequence[SweepRun], *, interrupted: bool = False) -> None:
        """A sweep of these simulations."""
        self.runs = list(runs)
        self.interrupted = interrupted

    def table(self, metric: str | None = None) -> list[dict[str, Any]]:
        """One dict for each combination of settings: these, and the metric's last value over the seeds, as
        ``mean``, ``spread`` (the standard deviation; 0 with one seed) and ``seeds`` (how many).

        Simulations that failed do not count. Where there are any, each dict has ``failure`` too: why the
        first of these settings did, or None. Without a seed that is left, mean and spread are None.

        Args:
            metric: its name; by default the first of the test's, or of all.

        Raises:
            ConfigError: no simulation has it.
        """
        name = self._metric(metric)
        rows = []
        for runs in self._by_settings().values():
            last = [list(run.simulation.history.values(name).values())[-1] for run in _complete(runs)]
            told = {
                "mean": statistics.fmean(last) if last else None,
                "spread": _spread(last) if last else None,
                "seeds": len(last),
            }
            failures = [run.failure for run in runs if run.failure is not None]
            failure = {"failure": failures[0] if failures else None}
            rows.append({**runs[0].settings, **told, **(failure if self._any_failed else {})})
        return rows

    def best(self, metric: str, mode: str) -> Mapping[str, Any]:
        """The settings with the best mean of a metric's last value, of those whose simulations all ended.

        Args:
            metric: its name.
            mode: ``max`` if more of it is better, ``min`` if less.

        Raises:
            ConfigError: no simulation has it, there is no such mode, or no settings are without a failure.
        """
        if mode not in ("max", "min"):
            raise ConfigError(f"the mode is {mode!r}; it must be 'max' or 'min'")
        pairs = zip(self._by_settings().values(), self.table(metric), strict=True)
        means = [(runs[0].settings, row["mean"]) for runs, row in pairs if row.get("failure") is None]
        if not means:
            raise ConfigError("a simulation of each of these settings failed; `table` says why")
        choose = max if mode == "max" else min
        return choose(means, key=lambda pair: pair[1])[0]

    def to_dicts(self) -> list[dict[str, Any]]:
        """One flat dict for each cycle of each simulation: settings, seed, and its row of the history."""
        return [
            {**run.settings, "seed": run.seed, **row}
            for run in self.runs
            for row in run.simulation.history.to_dicts()
        ]

    def to_pandas(self) -> Any:
        """The same as a `pandas.DataFrame`.

        Raises:
            ConfigError: pandas is not installed.
        """
        return data_frame(self.to_dicts())

    def plot(self, metric: str | None = None) -> Any:
        """Draws a metric by cycle: for each combination of settings the mean over the seeds, and the spread.

        Simulations that failed are left out.

        Args:
            metric: see `table`.

        Returns:
            The `matplotlib` Axes.

        Raises:
            ConfigError: matplotlib is not installed, or no simulation has the metric.
        """
        name = self._metric(metric)
        axes = new_axes()
        for label, runs in self._by_settings().items():
            curves = [run.simulation.history.values(name) for run in _complete(runs)]
            if not curves:
                continue
            cycles = sorted(set(curves[0]).intersection(*curves[1:]))
            values = [[curve[cycle] for curve in curves] for cycle in cycles]
            means, spreads = [statistics.fmean(at) for at in values], [_spread(at) for at in values]
            (line,) = axes.plot(cycles, means, label=label)
            lower = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
            upper = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
            axes.fill_between(cycles, lower, upper, color=line.get_color(), alpha=0.2)
        axes.set_xlabel("cycle")
        axes.set_ylabel(name)
        axes.legend()
        return axes

    def __repr__(self) -> str:
        try:
            rows = self.table()
        except ConfigError:
            return f"<Sweep of {len(self.runs)} simulations, in which nothing was measured>"
        labels = self._by_settings()
        lines = [f"  {label}: {_mean_of(row)}" for label, row in zip(labels, rows, strict=True)]
        return "\n".join([f"<Sweep of {len(self.runs)} simulations, {self._metric(None)}:", *lines]) + ">"

    def _repr_html_(self) -> str:
        try:
            rows = self.table()
        except ConfigError:
            return f"<p>{html.escape(repr(self))}</p>"
        return f"<p>{html.escape(self._metric(None))}</p>{html_table(rows)}"

    @property
    def _any_failed(self) -> bool:
        return any(run.failure is not None for run in self.runs)

    def _by_settings(self) -> dict[str, list[SweepRun]]:
        """The simulations that differ in their seed alone, by their label."""
        found: dict[str, list[SweepRun]] = {}
        for run in self.runs:
            found.setdefault(run.label, []).append(run)
        return found

    def _metric(self, metric: str | None) -> str:
        """The metric, or the one that tells most.

        Raises:
            ConfigError: there is none.
        """
        if metric is not None:
            return metric
        names = next(filter(None, (main_metrics(run.simulation.history) for run in self.runs)), [])
        if not names:
            raise ConfigError("nothing was measured; see `simulate` for `test` and for evaluation Plans")
        return names[0]


def _spread(values: Sequence[float]) -> float:
    """The standard deviation of a sample."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _complete(runs: Sequence[SweepRun]) -> list[SweepRun]:
    return [run for run in runs if run.failure is None]


def _mean_of(row: Mapping[str, Any]) -> str:
    mean = "no seed" if row["mean"] is None else f"{row['mean']:.4g} ± {row['spread']:.2g}"
    return mean if row.get("failure") is None else f"{mean}; failed: {row['failure']}"


def _note(run: SweepRun) -> str:
    return f"{run.label}: {note_of(run.simulation.history[-1]) if run.failure is None else 'failed'}"


def _word(value: Any) -> str:
    return str(value.get("name", value)) if isinstance(value, Mapping) and len(value) == 1 else str(value)


def _folder_name(settings: Mapping[str, Any], seed: int) -> str:
    """A name that belongs to these settings and this seed, whatever else is swept."""
    told = json.dumps([sorted(settings.items()), seed], default=repr)
    return hashlib.sha256(told.encode()).hexdigest()[:16]
