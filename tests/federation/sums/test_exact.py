"""The bits of a sum are a function of the set of what was added."""

import copy
import math
import random
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedplan.errors import AggregationError
from fedplan.federation.sums import exact
from fedplan.federation.sums.exact import LARGEST, ExactSum

Report = tuple[np.ndarray, float]

ELEMENTS = 3

weights = st.one_of(st.just(1.0), st.integers(1, 10**6).map(float), st.floats(1e-6, 1e6))
float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)
reports = st.lists(
    st.tuples(
        st.lists(float32s, min_size=ELEMENTS, max_size=ELEMENTS).map(lambda v: np.array(v, np.float32)),
        weights,
    ),
    max_size=12,
)


def sum_of(some: Sequence[Report], elements: int = ELEMENTS) -> ExactSum:
    made = ExactSum.zeros(elements)
    for values, weight in some:
        made.add(values, weight)
    return made


@given(reports, st.randoms(use_true_random=False))
def test_neither_order_nor_grouping_changes_a_bit(some: list[Report], chance: random.Random) -> None:
    expected = sum_of(some).total().tobytes()
    shuffled = chance.sample(some, len(some))
    cuts = sorted(chance.randint(0, len(some)) for _ in range(3))
    bounds = zip([0, *cuts], [*cuts, len(some)], strict=True)
    parts = [sum_of(shuffled[start:stop]) for start, stop in bounds]
    chance.shuffle(parts)
    whole = parts.pop()
    while parts:
        whole.merge(parts.pop())
    assert whole.total().tobytes() == expected


@pytest.mark.parametrize("room", [1, 3])
def test_nor_does_it_where_digits_have_little_room(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What digits give away when they are full stays theirs: of a place that is given up it goes too."""
    monkeypatch.setattr(exact, "_ROOM", room)
    test_neither_order_nor_grouping_changes_a_bit()
    test_many_at_once_give_the_bits_of_one_after_the_other()
    test_it_is_as_near_to_the_true_sum_as_float64_can_be()


def test_digits_that_gave_something_away_are_written_and_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "_ROOM", 2)
    made = sum_of([(np.array([x, -x]), 3.0) for x in (2.0**50, 1.0, 2.0**49, 7.0, 2.0**70)], 2)
    written = iter(made.arrays())
    read = ExactSum.read(made.head(), 2, lambda _count, _dtype: next(written).reshape(-1))
    assert read.total().tobytes() == made.total().tobytes()


@given(reports, reports)
def test_many_at_once_give_the_bits_of_one_after_the_other(some: list[Report], more: list[Report]) -> None:
    made = sum_of(some)
    values = np.array([values for values, _ in more], np.float32).reshape(len(more), ELEMENTS)
    factors = np.array([weight for _, weight in more])
    made.add_rows(values, factors, ExactSum.check_rows(values, factors))
    assert made.total().tobytes() == sum_of([*some, *more]).total().tobytes()


def test_very_many_at_once_leave_room_in_the_digits() -> None:
    values = np.full((5000, 2), 2.0**31, np.float32)
    many, few = ExactSum.zeros(2), ExactSum.zeros(2)
    ones = np.ones(len(values))
    for _ in range(250):  # far more than an int64 has room for
        many.add_rows(values, ones, ExactSum.check_rows(values, ones))
    few.add(values[0], 250.0 * len(values))
    assert many.total().tobytes() == few.total().tobytes()


def test_a_number_of_half_a_unit_of_a_place_above_it() -> None:
    """The sum is the same whether larger numbers, for which it has places above, come before or after it."""
    some = [(np.array([0.0, x]), 1.0) for x in (2.0**99 + 2.0**60, 2.0**99 - 2.0**50)]
    higher = [(np.array([x, 0.0]), 1.0) for x in (2.0**100, 2.0**151)]
    first, last = sum_of([*some, *higher], 2), sum_of([*reversed(higher), *some], 2)
    assert first.total().tobytes() == last.total().tobytes()


@given(reports)
def test_it_is_as_near_to_the_true_sum_as_float64_can_be(some: list[Report]) -> None:
    made = sum_of(some).total()
    largest = max((float(abs(values.astype(float)).max()) * weight for values, weight in some), default=0.0)
    for place in range(ELEMENTS):
        true = math.fsum(float(values[place]) * weight for values, weight in some)
        assert abs(made[place] - true) <= abs(true) * 2.0**-51 + len(some) * largest * 2.0**-50


def test_numbers_of_every_size_meet() -> None:
    made = sum_of([(np.array([x]), 1.0) for x in (1e-300, 1e270, 3.0, -1e270, 1e-30)], 1)
    assert made.total()[0] == 0.0  # 3 lies more than 50 bits below 1e270
    made = sum_of([(np.array([x]), 1.0) for x in (2.0**48, 3.0, -(2.0**48), 2.0**-50)], 1)
    assert made.total()[0] == 3.0 + 2.0**-50
    made = sum_of([(np.array([x]), 1.0) for x in (2.0**48, -(2.0**48), -(2.0**-50))], 1)
    assert made.total()[0] == -(2.0**-50)


@settings(max_examples=20)
@given(st.integers(1, 5))
def test_more_numbers_than_a_digit_has_room_for(seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal(5).astype(np.float32) * 2.0**31
    many, few = sum_of([(values, 1.0)], 5), ExactSum.zeros(5)
    for _ in range(22):  # 2²² times the values
        many.merge(copy.deepcopy(many))
    few.add(values, 2.0**22)
    assert many.total().tobytes() == few.total().tobytes()


@pytest.mark.parametrize(("value", "weight"), [(LARGEST, 1.0), (1e200, 1e101), (-LARGEST, 1.0)])
def test_what_could_become_infinite_is_refused(value: float, weight: float) -> None:
    made = ExactSum.zeros(1)
    with pytest.raises(AggregationError, match="could become infinite"):
        made.add(np.array([value]), weight)
    with pytest.raises(AggregationError, match="could become infinite"):
        ExactSum.check_rows(np.array([[1.0], [value]]), np.array([1.0, weight]))


@given(reports)
def test_the_last_total_is_the_same(some: list[Report]) -> None:
    made = sum_of(some)
    assert made.total().tobytes() == made.total(last=True).tobytes()


def test_the_last_total_takes_no_memory_beside_the_sum() -> None:
    tracemalloc.start()
    try:
        made = sum_of([(np.ones(1_000_000, np.float32), 3.0)], 1_000_000)
        tracemalloc.reset_peak()
        total = made.total(last=True)
        left, most = tracemalloc.get_traced_memory()
        assert (total == 3.0).all()
        assert left < 8_100_000
        assert most < 17_000_000  # the sum itself has 16 MB
    finally:
        tracemalloc.stop()


def test_a_sum_of_nothing_is_zero() -> None:
    nothing, something = ExactSum.zeros(2), sum_of([(np.array([1.0, -2.0]), 2.0)], 2)
    assert nothing.total().tolist() == [0.0, 0.0]
    nothing.merge(something)
    something.merge(ExactSum.zeros(2))
    assert nothing.total().tolist() == something.total().tolist() == [2.0, -4.0]
    assert ExactSum.zeros(0).total().tolist() == []
