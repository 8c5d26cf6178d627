"""Gauges for Prometheus: how each hosted model is doing, as it is when it is asked."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from fedplan.federation.privacy import Spending
from fedplan.grid.records import Cycle, CycleSummary, Process
from fedplan.grid.store.overview import Overview


def gauges(
    seen: Overview, summaries: Mapping[int, CycleSummary], spent: Mapping[int, tuple[Spending, int]]
) -> bytes:
    """The models as gauges, in Prometheus's text format.

    Args:
        seen: the models.
        summaries: by the process's id, of its latest cycle that ended without a failure.
        spent: see `spendings.latest_of_all`.
    """
    registry = CollectorRegistry()
    models = _Models(registry)
    for process in seen.processes:
        models.set(process, seen.cycles[process.id], seen.checkpoints[process.id][0].number)
        for name, metric in _metrics(summaries.get(process.id)).items():
            models.metric.labels(process.name, process.version, name).set(metric)
        if process.server_config.privacy is not None:
            found = spent.get(process.id)
            models.epsilon.labels(process.name, process.version).set(found[0].epsilon if found else 0.0)
    return generate_latest(registry)


class _Models:
    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, told: str, *labels: str) -> Gauge:
            return Gauge(f"fedplan_model_{name}", told, ["model", "version", *labels], registry=registry)

        self.cycle = gauge("cycle", "Number of the present cycle, or of the last one.")
        self.checkpoint = gauge("checkpoint", "Number of the newest checkpoint.")
        self.workers = gauge("cycle_workers", "Workers in the present cycle.")
        self.reports = gauge("cycle_reports", "Reports in the present cycle.")
        self.damaged = gauge("cycle_damaged", "Reports of the present cycle that were damaged on disk.")
        self.finished = gauge("finished", "1 when the training has ended.")
        self.epsilon = gauge("privacy_epsilon", "The ε that a model with privacy has spent, at its δ.")
        self.metric = gauge("metric", "What workers measured in the latest ended cycle.", "metric")

    def set(self, process: Process, cycle: Cycle, checkpoint: int) -> None:
        values = {
            self.cycle: cycle.number,
            self.checkpoint: checkpoint,
            self.workers: cycle.occupied,
            self.reports: cycle.reported,
            self.damaged: cycle.damaged,
            self.finished: cycle.ends_training,
        }
        for gauge, value in values.items():
            gauge.labels(process.name, process.version).set(value)


def _metrics(summary: CycleSummary | None) -> Mapping[str, float]:
    return {} if summary is None else {name: sum.mean.value for name, sum in summary.metrics.items()}
