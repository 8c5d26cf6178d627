"""Tensors of a model that share memory: a step that writes to one of them writes to the other."""

import itertools
from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from fedplan.errors import TraceError


def check_memory(model: nn.Module) -> None:
    """Refuses parameters and buffers that lie in the memory of others: a Plan would have them twice.

    One parameter that several layers use is one tensor, and no fault.

    Raises:
        TraceError: two of them share memory, and one is trained or is a buffer, to which a step may write.
    """
    by_memory: dict[int, list[tuple[str, torch.Tensor]]] = defaultdict(list)
    for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        if not (is_lazy(tensor) or tensor.is_meta) and tensor.numel():
            by_memory[tensor.untyped_storage().data_ptr()].append((name, tensor))
    for (one, first), (other, second) in itertools.chain.from_iterable(map(_near, by_memory.values())):
        if not (_stays(first) and _stays(second)) and _overlap(first, second):
            raise TraceError(
                f"'{one}' and '{other}' of the model share memory, and are two tensors: what is written to "
                "one changes the other, and a Plan would have each for itself. To tie them, let both be one "
                "parameter (`decoder.weight = encoder.weight`, or used twice in `forward`); to have two, "
                "copy one (`.clone()`)"
            )


def _near(
    tensors: list[tuple[str, torch.Tensor]],
) -> Iterator[tuple[tuple[str, torch.Tensor], tuple[str, torch.Tensor]]]:
    """Pairs in one memory of which the second begins before the first ends."""
    tensors.sort(key=lambda named: _bytes(named[1])[0])
    for number, first in enumerate(tensors):
        for second in tensors[number + 1 :]:
            if _bytes(second[1])[0] >= _bytes(first[1])[1]:
                break
            yield first, second


def _bytes(tensor: torch.Tensor) -> tuple[int, int]:
    """Where a tensor begins and ends in its memory."""
    first, size = int(tensor.storage_offset()), tensor.element_size()
    last = first + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    return first * size, (last + 1) * size


def _stays(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, nn.Parameter) and not tensor.requires_grad


def _overlap(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two tensors that are near each other have a number in common, as two columns of one do not."""
    if first.element_size() != second.element_size():
        return True
    taken = torch.zeros(max(_bytes(t)[1] // t.element_size() for t in (first, second)), dtype=torch.bool)
    taken.as_strided(first.shape, first.stride(), first.storage_offset()).fill_(True)
    return bool(taken.as_strided(second.shape, second.stride(), second.storage_offset()).any())
