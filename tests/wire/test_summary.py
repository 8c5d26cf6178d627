"""Reports: a diff's State, and what a worker tells beside it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedplan.errors import WireError
from fedplan.wire import MetricMean, State, Summary, WireTensor, read_report, schema, with_summary
from fedplan.wire.summary import summary_size

DIFF = State.of([WireTensor(np.arange(6, dtype=np.float32).reshape(2, 3), "float32")]).serialize()

numbers = st.floats(-1e50, 1e50)
weights = st.floats(1e-3, 1e9)
metrics = st.dictionaries(st.text(st.characters(categories=["L"]), min_size=1, max_size=100),
                          st.builds(MetricMean, numbers, weights), max_size=5)  # fmt: skip
summaries = st.builds(
    Summary,
    samples=st.none() | weights,
    steps=st.none() | st.integers(1, 2**62),
    metrics=metrics,
    evaluation=metrics,
)


@given(summaries)
def test_a_report_holds_the_diff_and_what_was_told(told):
    state, read = read_report(with_summary(DIFF, told))

    assert read == told
    assert state.serialize() == DIFF


@given(summaries)
def test_its_size_is_known_without_writing_it(told):
    assert summary_size(told) == len(with_summary(b"", told))


@given(summaries)
def test_who_knows_nothing_of_summaries_finds_the_state(told):
    state = State.parse(with_summary(DIFF, told))

    np.testing.assert_array_equal(state.tensors[0].array, np.arange(6, dtype=np.float32).reshape(2, 3))


def test_a_bare_state_tells_nothing():
    assert read_report(DIFF)[1] == Summary()


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (Summary(samples=0.0), "0.0 samples"),
        (Summary(samples=-1.0), "-1.0 samples"),
        (Summary(samples=5e-324), "5e-324 samples; it must be at least 1.18e-38"),
        (Summary(samples=1e-38), "1e-38 samples"),
        (Summary(samples=1e101), "1e\\+101 samples; .* at most 1e\\+100"),
        (Summary(samples=math.nan), "nan samples"),
        (Summary(samples=math.inf), "inf samples"),
        (Summary(steps=0), "0 steps"),
        (Summary(steps=-3), "-3 steps"),
        (Summary(metrics={"loss": MetricMean(math.nan, 1.0)}), "'loss' is nan"),
        (Summary(metrics={"loss": MetricMean(1e200, 1.0)}), "'loss' is 1e\\+200"),
        (Summary(evaluation={"loss": MetricMean(1.0, 0.0)}), "over 0.0 samples"),
        (Summary(evaluation={"": MetricMean(1.0, 1.0)}), "1 to 100 printable characters"),
        (Summary(evaluation={"a\nb": MetricMean(1.0, 1.0)}), "1 to 100 printable characters"),
        (Summary(metrics={f"m{n}": MetricMean(1.0, 1.0) for n in range(101)}), "101 metrics"),
    ],
)
def test_what_cannot_be_added_up_is_refused(told, why):
    with pytest.raises(WireError, match=why):
        read_report(with_summary(DIFF, told))


def test_a_metric_that_stands_there_twice_is_refused():
    twice = [schema.Metric(name="loss", value=1.0, weight=1.0)] * 2
    data = DIFF + schema.Report(summary=schema.Summary(metrics=twice)).encode()

    with pytest.raises(WireError, match="'loss' twice"):
        read_report(data)
