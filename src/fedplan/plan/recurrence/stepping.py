"""What the fast recurrences do step by step: stretches of steps, and sequences that end early."""

from collections.abc import Iterator

import torch

from fedplan.plan.recurrence.reference import running

_CACHED = 2**16
"""Numbers that stay in a core's cache while they are worked on."""


def own(gradient: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    """A gradient that may be written over; zeros for None."""
    if gradient is None:
        return torch.zeros_like(like, memory_format=torch.contiguous_format)
    return gradient.clone(memory_format=torch.contiguous_format)


def stretches(steps: int, numbers: int, reverse: bool) -> Iterator[tuple[int, int]]:
    """Stretches of time steps from the last to the first that was computed, as [begin, end).

    Args:
        steps: T.
        numbers: numbers of one step that are worked on.
        reverse: the last that was computed is step 0.
    """
    length = max(1, _CACHED // max(numbers, 1))
    if reverse:
        yield from ((begin, min(begin + length, steps)) for begin in range(0, steps, length))
    else:
        yield from ((max(end - length, 0), end) for end in range(steps, 0, -length))


def states_before(
    after: torch.Tensor, first: torch.Tensor, begin: int, end: int, reverse: bool
) -> torch.Tensor:
    """The state before each step of a stretch.

    Args:
        after: (T, B, N), the state after each step.
        first: (B, N), the one before the first that was computed.
        begin: of the stretch.
        end: of the stretch.
        reverse: the first that was computed is step T - 1.
    """
    if reverse:
        inside = end < len(after)
        return after[begin + 1 : end + 1] if inside else torch.cat((after[begin + 1 :], first.unsqueeze(0)))
    return after[begin - 1 : end - 1] if begin else torch.cat((first.unsqueeze(0), after[: end - 1]))


class Padding:
    """Steps that a sequence does not have, because it is shorter than the others.

    Attributes:
        going: (T, B, 1), or (T, clients, B, 1), whether a sequence has a step; None when all have all.
        steps: `going` step by step; empty when all have all.
    """

    def __init__(self, x: torch.Tensor, lengths: torch.Tensor | None) -> None:
        going = None if lengths is None else running(x, lengths.flatten())
        self.going = going if going is None or lengths is None else going.view(len(x), *lengths.shape, 1)
        self.steps = () if self.going is None else self.going.unbind(0)

    def filled(self, value: torch.Tensor, begin: int = 0, fill: float = 0) -> torch.Tensor:
        """(…, B, …) for steps from `begin` on, with a number at those that are missing; itself if none is."""
        if self.going is None:
            return value
        return value.masked_fill(~self.going[begin : begin + len(value)], fill)

    def fill_(self, value: torch.Tensor, begin: int = 0) -> torch.Tensor:
        """Puts zeros at the steps that are missing."""
        if self.going is None:
            return value
        return value.masked_fill_(~self.going[begin : begin + len(value)], 0)

    def carry_(self, after: torch.Tensor, before: torch.Tensor, t: int) -> None:
        """Puts the state before step t over the one after it, for sequences that do not have the step."""
        if self.steps:
            torch.where(self.steps[t], after, before, out=after)

    def back_(self, dh: torch.Tensor, d: torch.Tensor, weight: torch.Tensor, t: int) -> None:
        """Takes the gradient of the hidden state back over step t, where `d` is that of the gates."""
        if self.steps:
            kept = dh.masked_fill(self.steps[t], 0)
            (torch.addmm if dh.dim() == 2 else torch.baddbmm)(kept, d, weight, out=dh)
        else:
            (torch.mm if dh.dim() == 2 else torch.bmm)(d, weight, out=dh)
