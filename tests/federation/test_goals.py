import pytest

from fedplan.federation.goals import best_of, is_reached
from fedplan.wire.config import Goal, Stop

MORE, LESS = Goal(metric="accuracy", mode="max"), Goal(metric="loss", mode="min")


def test_the_best_checkpoint_is_the_first_with_the_best_value():
    values = {3: 0.5, 1: 0.2, 2: 0.5}
    assert best_of(MORE, values) == 2
    assert best_of(LESS, values) == 1
    assert best_of(MORE, {}) is None


def test_a_value_is_reached_by_the_newest_checkpoint():
    stop = Stop(metric="accuracy", mode="max", value=0.9)
    assert not is_reached(stop, {})
    assert not is_reached(stop, {1: 0.95, 2: 0.89})
    assert is_reached(stop, {1: 0.1, 2: 0.9})
    assert is_reached(Stop(metric="loss", mode="min", value=0.1), {1: 0.1})


@pytest.mark.parametrize(
    ("losses", "ends"),
    [
        ([3], False),
        ([3, 2, 1], False),
        ([3, 1, 2], False),
        ([1, 2, 3], True),
        ([3, 1, 2, 1], True),
        ([3, 1, 2, 0.5], False),
    ],
)
def test_patience_ends_when_nothing_gets_better(losses, ends):
    stop = Stop(metric="loss", mode="min", patience=2)
    assert is_reached(stop, dict(enumerate(losses))) == ends


def test_a_goal_must_say_when():
    with pytest.raises(ValueError, match="needs a value, a patience, or both"):
        Stop(metric="loss", mode="min")
