"""Where in a loader's batch the data and the targets stand."""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from fedplan.errors import DataError
from fedplan.plan import PlanInputSpec

Path = tuple[int | str, ...]
"""Keys that lead to a tensor: batch[path[0]][path[1]] …; the empty path is the batch itself."""

Taker = Callable[[Any], Sequence[Any]]
"""From a batch to what stands at some paths in it; raises LookupError or TypeError where nothing does."""


def locate_in_batch(specs: Sequence[PlanInputSpec], batch: Any) -> list[Path]:
    """The paths to what these specs mean.

    - `(images, labels)`: data is the first element, the target the one after the data; a spec with an index
      means the element of that number, as in the reference.
    - `((left, right), labels)`: the index counts inside of the data, or inside of the targets.
    - `{"image": …, "label": …}`: the spec's name is the key.

    Args:
        specs: of the types data and target.
        batch: the first batch; the others are of the same form.

    Raises:
        DataError: a tensor is not where a spec says.
    """
    data_indices = [spec.index or 0 for spec in specs if spec.type == PlanInputSpec.TYPE_DATA]
    grouped = isinstance(batch, list | tuple) and len(batch) > 0 and _is_group(batch[0])
    after_data = 1 if grouped else 1 + max(data_indices, default=0)
    paths = [_path(spec, batch, grouped, after_data) for spec in specs]
    for spec, path in zip(specs, paths, strict=True):
        _check(spec, path, batch)
    return paths


def take(batch: Any, path: Path) -> Any:
    """The element at a path."""
    for key in path:
        batch = batch[key]
    return batch


def taker(paths: Sequence[Path]) -> Taker:
    """A function that takes the elements at these paths out of a batch."""
    if len(paths) > 1 and all(len(path) == 1 for path in paths):
        return operator.itemgetter(*(path[0] for path in paths))  # the usual case, without a loop in Python
    return lambda batch: [take(batch, path) for path in paths]


def _path(spec: PlanInputSpec, batch: Any, grouped: bool, after_data: int) -> Path:
    if isinstance(batch, Tensor | np.ndarray):
        return ()
    if isinstance(batch, Mapping):
        return (_key(spec, batch),)
    if spec.type == PlanInputSpec.TYPE_DATA:
        return (0, _key(spec, batch[0])) if grouped else (spec.index or 0,)
    if len(batch) > 1 and _is_group(batch[1]):
        return 1, _key(spec, batch[1])
    return (after_data if spec.index is None or grouped else spec.index,)


def _is_group(value: Any) -> bool:
    return isinstance(value, list | tuple | Mapping)


def _key(spec: PlanInputSpec, group: Any) -> int | str:
    """How a spec names an element of a group: by name in a dict, else by index."""
    if not isinstance(group, Mapping):
        return spec.index or 0
    return spec.name if spec.name is not None else spec.type


def _check(spec: PlanInputSpec, path: Path, batch: Any) -> None:
    try:
        found = take(batch, path)
    except (LookupError, TypeError):
        found = None
    if not isinstance(found, Tensor | np.ndarray):
        where = "batch" + "".join(f"[{key!r}]" for key in path)
        raise DataError(
            f"the Plan's {spec.type} should stand at {where}, and there is no tensor in a batch of the form "
            f"{_form(batch)}. Say where it is with an index or a name in the PlanInputSpec"
        )


def _form(value: Any) -> str:
    """A batch's form in words, without its values."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_form(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "(" + ", ".join(_form(item) for item in value) + ")"
    return type(value).__name__
