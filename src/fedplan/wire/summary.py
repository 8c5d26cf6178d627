"""What a worker tells of a training beside its diff: how much data, how many steps, and what it measured.

A report is the bytes of a diff's State, and after them those of the summary, as one field more of the same
message. So a reader of protobuf that knows nothing of summaries finds the State.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

from fedplan.errors import WireError
from fedplan.wire import schema
from fedplan.wire.protobuf import MAX_VALUES
from fedplan.wire.scalars import Buffer
from fedplan.wire.state import State

MOST_METRICS = 100
"""How many metrics of a training, and of an evaluation, a summary may hold."""

LONGEST_NAME = 100
"""Characters of a metric's name."""

LEAST_SAMPLES = 2.0**-126
"""The least normal float32. A report of fewer samples is refused: multiplied by them its diff could be 0."""

MOST_TOLD = 1e100
"""No number in a summary is larger: a sum of them stays finite."""


@dataclasses.dataclass(frozen=True, slots=True)
class MetricMean:
    """A metric of one worker.

    Attributes:
        value: its mean over samples.
        weight: over how many.
    """

    value: float
    weight: float


@dataclasses.dataclass(frozen=True, slots=True)
class Summary:
    """What a worker tells of its training in a cycle. A worker that tells nothing sends none.

    Attributes:
        samples: how many different samples it trained on; None when it does not tell.
        steps: how many batches it trained on, counting each epoch; None when it does not tell.
        metrics: by name, what the training Plan measured while it trained; the loss is ``loss``.
        evaluation: by name, what the evaluation Plan measured of the model as the worker received it.
    """

    samples: float | None = None
    steps: int | None = None
    metrics: Mapping[str, MetricMean] = dataclasses.field(default_factory=dict)
    evaluation: Mapping[str, MetricMean] = dataclasses.field(default_factory=dict)


NOTHING_TOLD = Summary()


def with_summary(diff: bytes, summary: Summary) -> bytes:
    """A report: a State's bytes, and after them what is told beside it, if anything is."""
    if summary == NOTHING_TOLD:
        return diff
    message = schema.Summary(
        samples=summary.samples,
        steps=summary.steps,
        metrics=_written(summary.metrics),
        evaluation=_written(summary.evaluation),
    )
    return diff + schema.Report(summary=message).encode()


def summary_size(summary: Summary) -> int:
    """How many bytes `with_summary` adds. They depend on which numbers are zero, and on no other values."""
    return _size(summary.samples is None, summary.steps, _form(summary.metrics), _form(summary.evaluation))


_Form = tuple[tuple[str, bool, bool], ...]
"""Of each metric its name, and whether its value and its weight are written."""


def _form(metrics: Mapping[str, MetricMean]) -> _Form:
    return tuple(
        (name, metric.value != 0.0 or math.copysign(1.0, metric.value) < 0, metric.weight != 0.0)
        for name, metric in metrics.items()
    )


@functools.lru_cache(maxsize=1024)
def _size(no_samples: bool, steps: int | None, metrics: _Form, evaluation: _Form) -> int:
    def example(form: _Form) -> dict[str, MetricMean]:
        return {name: MetricMean(float(value), float(weight)) for name, value, weight in form}

    samples = None if no_samples else 1.0
    return len(with_summary(b"", Summary(samples, steps, example(metrics), example(evaluation))))


def read_report(data: Buffer, most_values: int = MAX_VALUES) -> tuple[State, Summary]:
    """The State and the summary of a report; of a bare State an empty summary.

    Args:
        data: the bytes.
        most_values: see `State.parse`.

    Raises:
        WireError: it is no report; its summary holds a number that is no number of samples or steps, or a
            metric that is not finite.
    """
    report = schema.Report.decode(data, most_values)
    state = State(schema.State(placeholders=report.placeholders, tensors=report.tensors))
    told = report.summary
    if told is None:
        return state, NOTHING_TOLD
    if told.samples is not None and not LEAST_SAMPLES <= told.samples <= MOST_TOLD:
        raise WireError(
            f"the report tells of {told.samples} samples; it must be at least {LEAST_SAMPLES:.3g} and at "
            f"most {MOST_TOLD:.0e}, or left out"
        )
    if told.steps is not None and told.steps <= 0:
        raise WireError(f"the report tells of {told.steps} steps; it must be more than 0 or left out")
    return state, Summary(told.samples, told.steps, _read(told.metrics), _read(told.evaluation))


def fault_of_name(name: str) -> str | None:
    """Why a metric cannot have a name; None when it can."""
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        return f"the name of a metric must have 1 to {LONGEST_NAME} printable characters"
    return None


def _written(metrics: Mapping[str, MetricMean]) -> list[schema.Metric]:
    return [
        schema.Metric(name=name, value=metric.value, weight=metric.weight) for name, metric in metrics.items()
    ]


def _read(metrics: Sequence[schema.Metric]) -> Mapping[str, MetricMean]:
    if len(metrics) > MOST_METRICS:
        raise WireError(f"the report tells of {len(metrics)} metrics; at most {MOST_METRICS} are taken")
    found: dict[str, MetricMean] = {}
    for metric in metrics:
        fault = fault_of_name(metric.name)
        if fault is not None:
            raise WireError(fault)
        if metric.name in found:
            raise WireError(f"the report tells of the metric '{metric.name}' twice")
        if not (_is_in_range(metric.value) and _is_in_range(metric.weight) and metric.weight > 0):
            raise WireError(
                f"the metric '{metric.name}' is {metric.value} over {metric.weight} samples; both must be "
                "finite, and there must be samples"
            )
        found[metric.name] = MetricMean(metric.value, metric.weight)
    return found


def _is_in_range(value: float) -> bool:
    return math.isfinite(value) and abs(value) <= MOST_TOLD
