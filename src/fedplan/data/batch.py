"""Samples → batch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fedplan.data.tensor import describe, to_tensor
from fedplan.errors import DataError

_ADVICE = "in the data set or with a transform, or give the loader a `collate`"


def collate(samples: Sequence[Any], indices: Sequence[int] | None = None) -> Any:
    """Puts samples of the same form into one batch.

    The batch has the form of its samples: for samples `(image, label)` it is the list `[images, labels]`,
    for dicts a dict, for bare tensors a tensor, and so on inside them. Values are stacked along a new first
    dimension. Tensors and arrays keep their dtype; of Python's numbers ints become int64, floats float32
    (torch's default dtype), bools bool.

    Args:
        samples: at least one; tensors, NumPy arrays, numbers, or tuples, lists and dicts of them.
        indices: the samples' numbers in their data set, for error messages; 0, 1, 2 … when None.

    Returns:
        Tensors of shape (len(samples), …) in lists and dicts.

    Raises:
        DataError: the samples differ in form, shape or dtype, or hold something that is not a number; the
            message names the sample.
    """
    if not samples:
        raise DataError("a batch needs at least one sample")
    return _collate(samples, range(len(samples)) if indices is None else indices, "")


def _collate(values: Sequence[Any], indices: Sequence[int], path: str) -> Any:
    """Collates what stands at the same `path` (such as ``[1]['mask']``) of each sample."""
    first = values[0]
    if isinstance(first, tuple | list):
        _check(values, indices, path, lambda v: isinstance(v, tuple | list) and len(v) == len(first))
        return [_collate([v[k] for v in values], indices, f"{path}[{k}]") for k in range(len(first))]
    if isinstance(first, Mapping):
        _check(values, indices, path, lambda v: isinstance(v, Mapping) and v.keys() == first.keys())
        return {key: _collate([v[key] for v in values], indices, f"{path}[{key!r}]") for key in first}
    return _stack(values, indices, path)


def _stack(values: Sequence[Any], indices: Sequence[int], path: str) -> Tensor:
    if all(
        isinstance(value, int | float) for value in values
    ):  # together, so that 1 and 2.5 agree on a dtype
        return _as_tensor(list(values), f"samples {indices[0]} to {indices[-1]}{path}")
    pairs = zip(values, indices, strict=True)
    tensors = [_as_tensor(value, f"sample {index}{path}") for value, index in pairs]
    first = tensors[0]
    _check(tensors, indices, path, lambda t: t.shape == first.shape and t.dtype == first.dtype)
    return torch.stack(tensors)


def _as_tensor(value: Any, where: str) -> Tensor:
    try:
        return to_tensor(value)
    except DataError as error:
        raise DataError(f"{where}: {error}. Convert it {_ADVICE}") from None


def _check(values: Sequence[Any], indices: Sequence[int], path: str, fits: Callable[[Any], bool]) -> None:
    for value, index in zip(values, indices, strict=True):
        if not fits(value):
            raise DataError(
                f"sample {indices[0]}{path} is {_form(values[0])}, sample {index}{path} is {_form(value)}: "
                f"they cannot stand in one batch. Make them alike {_ADVICE}"
            )


def _form(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {describe(value)}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, Mapping):
        return f"a dict with the keys {', '.join(map(repr, value))}"
    return f"a {type(value).__name__}"
