"""Counters for Prometheus, one registry per app."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest


class Metrics:
    """What the grid counts.

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

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
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
        """All of it in Prometheus's text format."""
        return generate_latest(self._registry)
