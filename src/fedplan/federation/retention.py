"""Which checkpoints of a model need not be kept any more."""

from collections.abc import Collection

from fedplan.wire.config import CheckpointsKept


def dispensable(kept: CheckpointsKept | None, there: Collection[int], needed: Collection[int]) -> list[int]:
    """The checkpoints that may be deleted, by their numbers, in their order.

    Args:
        kept: what the model's owner wants to keep; None for all.
        there: all that there are.
        needed: those that stay in any case.
    """
    if kept is None:
        return []
    ordered = sorted(there)
    stays = {*needed, *ordered[-kept.last :]}
    if kept.every is not None:
        stays |= {number for number in ordered if number % kept.every == 0}
    return [number for number in ordered if number not in stays]
