"""Metrics of workers, added up: which are kept, whatever names workers tell."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedplan.federation import UNIFORM, Sums, Update
from fedplan.federation.sums.metrics import MOST_UNKNOWN, Measurements, MetricNames
from fedplan.plan import Role
from fedplan.wire import MetricMean, Summary
from tests.federation.made import wire

KNOWN = MetricNames(frozenset({"loss", "training_loss", "training_accuracy"}), own=frozenset({"update_norm"}))
LAYOUT = (((1,), "float32"),)
DIFF = [wire([1.0])]


def told(*names, value=1.0):
    return {name: MetricMean(value, 1.0) for name in names}


def kept(names, *summaries):
    """The names in a sum of updates that tell this."""
    total = Sums(LAYOUT, (Role.TRAINED,), UNIFORM, kept=names)
    for summary in summaries:
        total.add(Update(DIFF, summary))
    return list(total.metrics)


def test_only_what_the_plans_measure_is_kept():
    summary = Summary(metrics=told("loss", "mood"), evaluation=told("loss", "accuracy", "update_norm"))
    assert kept(KNOWN, summary) == ["loss", "training_loss"]
    measured = Measurements(UNIFORM, KNOWN)
    measured.add(summary)
    assert list(measured.metrics) == ["loss"]


def test_what_was_measured_of_the_model_is_not_taken_for_what_was_measured_in_a_training():
    total = Sums(LAYOUT, (Role.TRAINED,), UNIFORM, kept=KNOWN)
    total.add(Update(DIFF, Summary(metrics=told("loss"), evaluation=told("training_loss", value=9.0))))
    assert total.metrics["training_loss"].mean == MetricMean(1.0, 1.0)
    measured = Measurements(UNIFORM, KNOWN)
    measured.add(Summary(evaluation=told("training_loss", value=9.0)))
    assert not measured.metrics


NAMES = [f"m{number:03}" for number in range(60)]


@given(st.lists(st.sets(st.sampled_from(NAMES), max_size=30), min_size=1, max_size=8), st.data())
def test_of_plans_that_say_nothing_the_same_few_are_kept_in_whatever_order_reports_come(reports, data):
    names = MetricNames(wanted=frozenset({"m055", "m059"}))
    everything = sorted(set().union(*reports))
    wanted = [name for name in everything if name in names.wanted]
    expected = [name for name in everything if name not in names.wanted][:MOST_UNKNOWN] + wanted
    if len(everything) <= MOST_UNKNOWN:
        expected = everything

    parts = [Sums(LAYOUT, (Role.TRAINED,), UNIFORM, kept=names) for _ in range(2)]
    for report in data.draw(st.permutations(reports)):
        part = data.draw(st.sampled_from(parts))
        part.add(Update(DIFF, Summary(evaluation=told(*report))))
    parts[0].merge_bytes(parts[1].serialize())
    assert list(parts[0].metrics) == sorted(expected)
    for name in expected:
        assert parts[0].metrics[name].workers == sum(name in report for report in reports)


@pytest.mark.parametrize("reports", [1, 50])
def test_a_sum_of_names_without_end_does_not_grow(reports):
    summaries = [
        Summary(evaluation=told(*(f"{report}-{number}" for number in range(100))))
        for report in range(reports)
    ]
    assert len(kept(MetricNames(), *summaries)) == MOST_UNKNOWN
