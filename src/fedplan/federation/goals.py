"""Which checkpoint is the best, and when a training has reached what it is for."""

from collections.abc import Mapping

from fedplan.wire.config import Goal, Stop


def best_of(goal: Goal, values: Mapping[int, float]) -> int | None:
    """The checkpoint with the best value; of equal ones the first. None when there is no value.

    Args:
        goal: which metric, and whether more or less of it is better.
        values: the metric of each checkpoint.
    """
    sign = 1.0 if goal.mode == "max" else -1.0
    return max(sorted(values), key=lambda number: sign * values[number], default=None)


def is_reached(stop: Stop, values: Mapping[int, float]) -> bool:
    """Whether a training ends.

    Args:
        stop: when it does.
        values: the metric of each checkpoint, in their order.
    """
    if not values:
        return False
    sign = 1.0 if stop.mode == "max" else -1.0
    ordered = [sign * values[number] for number in sorted(values)]
    if stop.value is not None and ordered[-1] >= sign * stop.value:
        return True
    if stop.patience is None or len(ordered) <= stop.patience:
        return False
    return max(ordered[-stop.patience :]) <= max(ordered[: -stop.patience])
