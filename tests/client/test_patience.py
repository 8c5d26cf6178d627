"""How long a worker waits, without a grid and without waiting."""

import itertools

import pytest

from fedplan.client.patience import Patience
from fedplan.errors import CycleRejectedError

FINISHED = CycleRejectedError("")


def later(seconds: float) -> CycleRejectedError:
    return CycleRejectedError("", timeout=seconds)


def ends_in(seconds: float) -> CycleRejectedError:
    """What a PyGrid node says: when its cycle ends at the latest."""
    return CycleRejectedError("", timeout=seconds, at_latest=True)


def waits(patience: Patience, rejected: CycleRejectedError, times: int) -> list[float]:
    found = [patience.wait(rejected) for _ in range(times)]
    assert all(seconds is not None for seconds in found)
    return [seconds or 0.0 for seconds in found]


def test_a_grid_that_says_when_to_ask_is_asked_then() -> None:
    for seconds in waits(Patience(True), later(2479.7), 20):
        assert 2479.7 <= seconds <= 1.1 * 2479.7


@pytest.mark.parametrize("left", [2479.7, 0.0], ids=["hours before its end", "after its end"])
def test_a_grid_that_says_when_its_cycle_ends_is_asked_after_seconds_that_grow_to_a_bound(
    left: float,
) -> None:
    found = waits(Patience(True), ends_in(left), 12)
    for seconds, least in zip(found, [1, 2, 4, 8, 16, *itertools.repeat(30, 7)], strict=True):
        assert least <= seconds <= 1.5 * 1.1 * least


def test_workers_that_were_rejected_together_do_not_ask_together() -> None:
    assert len({waits(Patience(True), ends_in(2479.7), 1)[0] for _ in range(20)}) == 20


def test_it_is_asked_no_later_than_its_cycle_ends() -> None:
    patience = Patience(True)
    waits(patience, ends_in(2479.7), 8)
    assert waits(patience, ends_in(3.0), 1)[0] <= 3.3


def test_in_the_next_cycle_the_wait_begins_anew() -> None:
    patience = Patience(True)
    waits(patience, ends_in(2479.7), 8)
    patience.joined(numbered=False)
    assert waits(patience, ends_in(2479.7), 1)[0] < 2


def test_between_its_cycles_a_worker_that_was_not_told_to_wait_does_so_until_the_cycle_must_have_ended() -> (
    None
):
    patience = Patience(False)
    assert patience.wait(ends_in(100.0)) is None  # it is in no cycle yet
    patience.joined(numbered=False)
    patience.renew()
    waited = 0.0
    while (seconds := patience.wait(ends_in(100.0))) is not None:
        waited += seconds
    assert waited == pytest.approx(100.0 + 60.0)


def test_a_model_that_seems_finished_between_two_cycles_is_asked_for_once_more() -> None:
    """A PyGrid node, which tells no number of the cycle, has none for a moment."""
    patience = Patience(True)
    patience.joined(numbered=False)
    patience.renew()
    assert 1.0 <= waits(patience, FINISHED, 1)[0] <= 1.1
    assert patience.wait(FINISHED) is None
    patience.joined(numbered=True)
    patience.renew()
    assert patience.wait(FINISHED) is None
    assert Patience(True).wait(FINISHED) is None
