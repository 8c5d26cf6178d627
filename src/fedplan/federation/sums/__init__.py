"""Sums of updates whose bits depend on which updates are in them, and on nothing else."""

from fedplan.federation.sums.framing import framed, unframed
from fedplan.federation.sums.metrics import (
    TRAINING,
    Measurements,
    MetricNames,
    Metrics,
    MetricSum,
    add_metrics,
    told_metrics,
)
from fedplan.federation.sums.sums import BYTES_PER_ELEMENT, Average, Sums

__all__ = [
    "BYTES_PER_ELEMENT",
    "TRAINING",
    "Average",
    "Measurements",
    "MetricNames",
    "MetricSum",
    "Metrics",
    "Sums",
    "add_metrics",
    "framed",
    "told_metrics",
    "unframed",
]
