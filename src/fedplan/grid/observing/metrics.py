"""Counters for Prometheus, one registry per app."""

from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector


class Metrics:
    """What the grid counts.

    Args:
        together: folder in which the processes of the grid keep what they count, as the environment variable
            ``PROMETHEUS_MULTIPROC_DIR`` told prometheus_client when it was loaded; None for one process.

    Attributes:
        requests: answered requests, by call, transport (http, ws) and outcome (an HTTP status).
        seconds: how long answers took, by call.
        reports: reports, by outcome (accepted, refused), and accepted ones found damaged later (damaged).
        damaged: how often a stored blob was found damaged, by kind (the first part of its key).
        deleted: what was deleted since nothing needs it, by what it was (checkpoints, orphans).
        vacated: places of workers that went without a report, by how (declined, lapsed).
        cycles: ended cycles, by outcome (done, failed), and extensions (extended).
        withheld: cycle requests of clients that cannot train the model, by client.
        closing_seconds: how long the averaging of a cycle took.
    """

    def __init__(self, together: Path | None = None) -> None:
        self._registry = CollectorRegistry()
        self._told = self._registry
        if together is not None:
            self._told = CollectorRegistry()
            MultiProcessCollector(self._told, str(together))  # type: ignore[no-untyped-call]
        self.requests = Counter(
            "fedplan_requests",
            "Answered requests.",
            ["call", "transport", "outcome"],
            registry=self._registry,
        )
        self.seconds = Histogram(
            "fedplan_request_seconds", "Time to answer.", ["call"], registry=self._registry
        )
        self.reports = Counter(
            "fedplan_reports", "Reports from workers.", ["outcome"], registry=self._registry
        )
        self.damaged = Counter(
            "fedplan_damaged", "Reads of stored blobs that are damaged.", ["kind"], registry=self._registry
        )
        self.deleted = Counter(
            "fedplan_deleted", "What was deleted as nothing needs it.", ["what"], registry=self._registry
        )
        self.vacated = Counter(
            "fedplan_vacated", "Places given up without a report.", ["how"], registry=self._registry
        )
        self.webhooks = Counter(
            "fedplan_webhooks", "Messages to webhooks.", ["outcome"], registry=self._registry
        )
        self.cycles = Counter(
            "fedplan_cycles", "Cycles ended or extended.", ["outcome"], registry=self._registry
        )
        self.withheld = Counter(
            "fedplan_withheld",
            "Cycle requests of clients that cannot train the model.",
            ["client"],
            registry=self._registry,
        )
        self.closing_seconds = Histogram(
            "fedplan_closing_seconds", "Time to average a cycle.", registry=self._registry
        )

    def exposition(self) -> bytes:
        """All of it in Prometheus's text format: the sums over all processes, those that have ended too."""
        return generate_latest(self._told)
