"""What a cycle of a hosted model is as a secure round; grid, worker and simulation make the same of it."""

import json
import logging
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from fedplan.errors import SecureAggregationError
from fedplan.federation.secure.figures import (
    WEIGHT,
    Figure,
    metrics_among,
    names_of_metric,
    usual_figures,
)
from fedplan.federation.secure.keys import PROTOCOL
from fedplan.federation.secure.manifest import Manifest, digest_of_bytes
from fedplan.federation.secure.messages import ReportMessage, written
from fedplan.federation.secure.parameters import Parameters, Trust, parameters_for
from fedplan.federation.secure.payload import SecureAverage
from fedplan.federation.secure.quantisation import exponent_for, next_exponent
from fedplan.federation.secure.roster import Roster
from fedplan.federation.secure.streams import FIGURE_BYTES
from fedplan.federation.secure.terms import Received
from fedplan.federation.strategies import Setting
from fedplan.federation.sums import Average, MetricNames, Metrics, MetricSum
from fedplan.wire import Summary, schema
from fedplan.wire.secure import SecureAggregationConfig

_log = logging.getLogger(__name__)

PROTOCOL_NAME = "secure_aggregation"
"""The name of the Protocol with which a grid tells workers that reports are added up securely."""


def protocol_of(config: SecureAggregationConfig) -> schema.Protocol:
    """The Protocol that workers find in `Job.protocols`."""
    told = {"version": PROTOCOL.decode().strip(), **config.model_dump(mode="json", exclude_none=True)}
    return schema.Protocol(
        name=PROTOCOL_NAME, tags=[PROTOCOL.decode().strip()], description=json.dumps(told, sort_keys=True)
    )


def cycle_name(model: str, version: str, number: int) -> str:
    """What a cycle is called in its manifest: no other cycle of the grid is called so."""
    return json.dumps([model, version, number])


def digest_of_config(client_config: Mapping[str, Any]) -> bytes:
    """The digest of a client_config's text: JSON with sorted keys, without spaces and without nulls."""
    told = _without_nulls(client_config)
    return digest_of_bytes(json.dumps(told, sort_keys=True, separators=(",", ":")).encode())


def parameters_of(config: SecureAggregationConfig, workers: int) -> Parameters:
    """The parameters of a round with so many workers.

    Raises:
        SecureAggregationError: no parameters keep the promise.
    """
    return parameters_for(
        workers,
        Trust(config.level),
        dropout=config.dropout_thousandths,
        corrupt=config.corrupt_thousandths,
    )


def most_weight_of(setting: Setting) -> float:
    """No report counts more."""
    config = setting.server
    return 1.0 if config.weighting == "uniform" or config.max_weight is None else config.max_weight


def figures_of(setting: Setting, workers: int) -> tuple[Figure, ...]:
    """What is added up beside the vector: the metrics are those that the model's Plans measure."""
    config = _config_of(setting)
    metrics = dict.fromkeys(sorted(setting.measured or ()), config.most_metric)
    return usual_figures(workers, most_weight_of(setting), metrics)


def first_exponents(setting: Setting) -> tuple[int, ...]:
    """The scales of a model's first cycle, from its owner's `clip`."""
    config = _config_of(setting)
    return (exponent_for(config.clip, config.bits),) * len(setting.changing_layout)


def next_exponents(manifest: Manifest, found: SecureAverage, reports: int) -> tuple[int, ...]:
    """The scales of the next cycle, from what this one's sum tells everybody.

    What is scaled are updates times weight / largest weight, so their mean is looked at, and not the average:
    where weights are far below the largest one, the scales would grow with each cycle.
    """
    share = found.figures[WEIGHT] / (reports * manifest.most_weight)
    pairs = zip(manifest.exponents, found.tensors, strict=True)
    return tuple(next_exponent(exponent, tensor * share, manifest.value_bits) for exponent, tensor in pairs)


def manifest_of(
    setting: Setting, cycle: str, roster: Roster, received: Received, exponents: Sequence[int]
) -> Manifest:
    """The manifest of a cycle.

    Args:
        setting: of the model.
        cycle: its name; see `cycle_name`.
        roster: who is in it.
        received: digests of what the workers have downloaded.
        exponents: of the scales, one for each tensor that changes.

    Raises:
        SecureAggregationError: so many workers cannot add their reports up securely.
    """
    config = _config_of(setting)
    return Manifest(
        cycle,
        received.model,
        received.plans,
        received.client_config,
        roster.digest,
        parameters_of(config, len(roster)),
        config.bits,
        tuple(_elements(shape) for shape, _ in setting.changing_layout),
        tuple(exponents),
        most_weight_of(setting),
        figures_of(setting, len(roster)),
    )


def told_figures(manifest: Manifest, summary: Summary) -> dict[str, float]:
    """What a worker tells beside its update: its weight, and what it measured.

    Raises:
        SecureAggregationError: reports are weighted, and it does not tell how many samples it has.
    """
    most_weight = manifest.most_weight
    if summary.samples is None and most_weight != 1.0:
        raise SecureAggregationError(
            "the reports of this round count by their samples, and the report does not tell how many it has: "
            "report with a summary that has samples"
        )
    told = {WEIGHT: min(1.0 if summary.samples is None else summary.samples, most_weight)}
    known = frozenset(metrics_among([figure.name for figure in manifest.figures]))
    largest = {figure.name: figure.most for figure in manifest.figures}
    for name, metric in MetricNames(known).told(summary).items():
        total, weight = names_of_metric(name)
        counts = min(metric.weight, most_weight)
        if not abs(metric.value) * most_weight <= largest[total]:  # nor is what is not a number
            _log.warning(
                "the metric %s is %g, and a secure round cannot take it: left out", name, metric.value
            )
            continue
        told |= {total: metric.value * counts, weight: counts}
    return told


def report_bytes(manifest: Manifest) -> int:
    """How long a masked report of a round is."""
    vector = bytes(manifest.ring.packed_size(manifest.values))
    return len(written(ReportMessage(vector=vector, figures=bytes(FIGURE_BYTES * len(manifest.figures)))))


def average_for(setting: Setting, found: SecureAverage, reports: int) -> Average:
    """What a strategy is given of a secure round."""
    weight = found.figures[WEIGHT]
    shapes = (shape for shape, _ in setting.changing_layout)
    tensors = tuple(t.reshape(shape) for t, shape in zip(found.tensors, shapes, strict=True))
    samples = weight if setting.weighting.by_samples else 0.0
    metrics = {name: metric.mean for name, metric in metrics_of(found, reports).items()}
    return Average(tensors, {}, reports, samples, metrics)


def metrics_of(found: SecureAverage, reports: int) -> Metrics:
    """The metrics that a sum tells. How many workers told one is not known: all reports are named."""
    metrics = {}
    for name in metrics_among(list(found.figures)):
        total, weight = (Fraction(found.figures[figure]) for figure in names_of_metric(name))
        if weight > 0:
            metrics[name] = MetricSum(total, weight, reports)
    return metrics


def _elements(shape: Sequence[int]) -> int:
    elements = 1
    for extent in shape:
        elements *= extent
    return elements


def _config_of(setting: Setting) -> SecureAggregationConfig:
    config = setting.server.secure_aggregation
    if config is None:
        raise SecureAggregationError("the model is not trained with secure aggregation")
    return config


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value
