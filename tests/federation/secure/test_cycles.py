"""What a cycle of a hosted model is as a secure round."""

import dataclasses
import math

import numpy as np
import pytest

from fedplan.federation.secure import Payload, average_of, exponent_for, payload_of, usual_figures
from fedplan.federation.secure.cycles import next_exponents, told_figures
from fedplan.wire import Summary
from fedplan.wire.summary import MetricMean
from tests.federation.secure.rounds import SecureRound

WORKERS, CYCLES, BITS = 10, 8, 8


@pytest.mark.parametrize("most_weight", [60.0, 100.0, 1_000.0, 10_000.0])
def test_scales_follow_what_is_reported_however_large_a_weight_might_be(most_weight):
    """Each worker keeps what was rounded away for its next report, as workers do."""
    rng = np.random.default_rng(0)
    manifest = SecureRound(WORKERS).manifest
    step = exponent_for(0.1, BITS)
    manifest = dataclasses.replace(
        manifest,
        most_weight=most_weight,
        value_bits=BITS,
        exponents=(step,) * len(manifest.sizes),
        figures=usual_figures(WORKERS, most_weight, {}),
    )
    left = [[np.zeros(size) for size in manifest.sizes] for _ in range(WORKERS)]
    errors = []
    for _ in range(CYCLES):
        updates = [[rng.normal(0.0, 0.01, size) for size in manifest.sizes] for _ in range(WORKERS)]
        payloads = []
        for worker, update in enumerate(updates):
            sent = [own + rest for own, rest in zip(update, left[worker], strict=True)]
            payload, left[worker] = payload_of(manifest, sent, {"weight": 60.0})
            payloads.append(payload)
        total = Payload(
            sum(p.values for p in payloads), tuple(map(sum, zip(*(p.figures for p in payloads), strict=True)))
        )
        average = average_of(manifest, total)
        expected = [np.mean(parts, axis=0) for parts in zip(*updates, strict=True)]
        off = math.hypot(*(np.linalg.norm(a - e) for a, e in zip(average.tensors, expected, strict=True)))
        errors.append(off / math.hypot(*(np.linalg.norm(e) for e in expected)))
        manifest = dataclasses.replace(manifest, exponents=next_exponents(manifest, average, WORKERS))
    assert errors[-1] < 0.5 + errors[0], errors


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e300])
def test_a_metric_that_cannot_be_added_up_is_left_out(value):
    manifest = SecureRound(3).manifest
    summary = Summary(samples=5.0, metrics={"loss": MetricMean(value, 5.0)})
    assert told_figures(manifest, summary) == {"weight": 5.0}
