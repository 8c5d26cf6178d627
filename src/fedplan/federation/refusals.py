"""Why a report is refused, by a grid and by a simulation alike."""

from fedplan.errors import AggregationError, DiffRefusedError
from fedplan.federation.strategies import Strategy, lacking
from fedplan.federation.tensors import Layout, Reach, Tensors, apply, misfit, reach_of
from fedplan.federation.update import Update
from fedplan.wire import Summary


def check_told(strategy: Strategy, summary: Summary) -> None:
    """Refuses a report that does not tell what a strategy needs.

    Raises:
        DiffRefusedError: it does not.
    """
    missing = lacking(strategy, summary)
    if missing:
        raise DiffRefusedError(
            f"the model's strategy, {strategy.name}, needs to know the {' and the '.join(missing)} of a "
            "training, and the report does not tell: take part with a newer fedplan"
        )


def check_sum(strategy: Strategy, update: Update) -> None:
    """Refuses a report that cannot be averaged with others, for a number in it is too large.

    Args:
        strategy: the model's.
        update: the report; its diff passed `check_fit`, and what it tells `check_told`.

    Raises:
        DiffRefusedError: it cannot.
    """
    try:
        strategy.check(update)
    except AggregationError as error:
        raise DiffRefusedError(f"the report cannot be averaged: {error}") from None


def check_fit(diff: Tensors, layout: Layout) -> Reach:
    """How far a diff reaches. Refuses one of other tensors than the model's, or with values not finite.

    Raises:
        DiffRefusedError: it does not fit.
    """
    reach = reach_of(diff)
    reason = misfit(diff, layout, reach)
    if reason is not None:
        raise DiffRefusedError(f"the diff does not fit the model: {reason}")
    return reach


def check_result(model: Tensors, diff: Tensors) -> None:
    """Refuses a diff after which the model that the worker trained cannot exist.

    The mean of models that can exist is one too: so no single diff makes a cycle's average unusable.

    Raises:
        DiffRefusedError: it cannot.
    """
    try:
        apply(model, diff)
    except AggregationError as error:
        raise DiffRefusedError(f"the diff does not fit the model: {error}") from None
