"""Sums of updates whose bits depend on which updates are in them, and on nothing else."""

from fedplan.federation.sums.beside import TRAINING
from fedplan.federation.sums.framing import framed, unframed
from fedplan.federation.sums.metrics import (
    Measurements,
    Metrics,
    MetricSum,
    add_metrics,
    metrics_of,
    told_metrics,
)
from fedplan.federation.sums.sums import BYTES_PER_ELEMENT, Average, Sums

__all__ = [
    "BYTES_PER_ELEMENT",
    "TRAINING",
    "Average",
    "Measurements",
    "MetricSum",
    "Metrics",
    "Sums",
    "add_metrics",
    "framed",
    "metrics_of",
    "told_metrics",
    "unframed",
]
