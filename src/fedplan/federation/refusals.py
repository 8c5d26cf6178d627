"""Why a report is refused, by a grid and by a simulation alike."""

import math

from fedplan.errors import AggregationError, DiffRefusedError
from fedplan.federation.strategies import Setting, Strategy, lacking
from fedplan.federation.tensors import Layout, Reach, Tensors, apply, is_within, misfit, reach_of
from fedplan.federation.update import Update
from fedplan.wire import Summary

_LARGEST_RATIO = 1_000.0
"""A report may have so many times the model's norm, where the server_config says no other bound. No training
goes so far in a cycle, and one such report among hundreds moves an average by a few times the model."""

_LEAST_NORM = 1.0
"""A model with a smaller norm counts as one of this norm: a model of zeros is trained too."""


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


def needs_no_look(setting: Setting, model: Reach, diff: Reach) -> bool:
    """Whether a diff passes `check_change`, as far as the reach of the two tells, which costs nothing.

    False says nothing.

    Args:
        setting: the model's.
        model: how far the model reaches from which the training started: those of its tensors that change.
        diff: how far the diff reaches.
    """
    layout = setting.changing_layout
    if not is_within(model, diff, layout):
        return False
    largest = math.hypot(*(diff[place] * math.sqrt(math.prod(layout[place][0])) for place in setting.trained))
    least = max((model[place] for place in setting.trained), default=0.0)
    return largest <= _largest_norm(setting, least)


def check_change(setting: Setting, model: Tensors, diff: Tensors) -> None:
    """Refuses a diff that would change the model beyond all measure, or into one that cannot exist.

    The mean of models that can exist is one too, and the mean of diffs has no larger norm than the largest of
    them: so no single diff makes a cycle's average unusable.

    Args:
        setting: the model's.
        model: the model from which the training started: those of its tensors that change.
        diff: the diff; it passed `check_fit`.

    Raises:
        DiffRefusedError: it would.
    """
    norm, of_model = setting.norm(diff), setting.norm(model)
    if norm > (most := _largest_norm(setting, of_model)):
        raise DiffRefusedError(
            f"the report's norm is {norm:.3g}, and the model takes at most {most:.3g}"
            + (
                f", {_LARGEST_RATIO:,.0f} × the norm of the model that was to be trained: see whether the "
                "training diverged; a model that really changes so much needs a 'max_norm' in its "
                "server_config"
                if setting.server.max_norm is None
                else ", which its server_config says ('max_norm')"
            )
        )
    try:
        apply(model, diff)
    except AggregationError as error:
        raise DiffRefusedError(f"the diff does not fit the model: {error}") from None


def _largest_norm(setting: Setting, model: float) -> float:
    """The largest norm that a report may have, of a model with a norm."""
    server = setting.server
    if server.max_norm is not None:
        return server.max_norm
    if server.privacy is not None:  # its clip bounds what any report changes
        return math.inf
    return _LARGEST_RATIO * max(model, _LEAST_NORM)
