"""How the arguments of a Plan nest, as PySyft writes it down: ``input_types``.

PySyft lays the arguments of the function that it traced out as one list of inputs, and notes beside it how
they nested: `(X, y, batch_size, lr, [w, b])` gives six inputs. An input's path is the place of its argument
and, within a list, its place there: (0,), (1,), (2,), (3,), (4, 0), (4, 1).
"""

import itertools
from collections.abc import Iterable, Sequence

from fedplan.wire import schema

Path = tuple[int, ...]

_TENSOR = "torch.Tensor"


def paths_of(types: schema.NestedTypeWrapper | None, inputs: int) -> Sequence[Path | None]:
    """The path of each input; None for all when the message does not tell it.

    Args:
        types: what the message says.
        inputs: how many inputs the Plan has.
    """
    items = _items(types)
    found = None if items is None else _paths(items, ())
    return [None] * inputs if found is None or len(found) != inputs else found


def _items(types: schema.NestedTypeWrapper | None) -> Sequence[schema.NestedTypeWrapper] | None:
    """What a list or a tuple holds; None of anything else."""
    container = None if types is None else types.nested_types
    if container is None:
        return None
    sequence = container.nested_type_tuple or container.nested_type_list
    return None if sequence is None else sequence.nested_types


def _paths(items: Iterable[schema.NestedTypeWrapper], above: Path) -> list[Path] | None:
    """The paths of all tensors; None where a dict is, for protobuf does not keep the order of its keys."""
    found: list[Path] = []
    for place, item in enumerate(items):
        container, within = item.nested_types, _items(item)
        if container is not None and container.nested_type_dict is not None:
            return None
        below = [(*above, place)] if within is None else _paths(within, (*above, place))
        if below is None:
            return None
        found += below
    return found


def types_of(paths: Sequence[Path | None]) -> schema.NestedTypeWrapper | None:
    """The message for these paths, in order; None when an input has none."""
    known = [path for path in paths if path is not None]
    return None if not paths or len(known) != len(paths) else _sequence(known, 0)


def _sequence(paths: Sequence[Path], depth: int) -> schema.NestedTypeWrapper:
    """The arguments themselves as a tuple, and what nests in them as lists."""
    groups = [list(group) for _, group in itertools.groupby(paths, key=lambda path: path[depth])]
    items = [_sequence(group, depth + 1) if len(group[0]) > depth + 1 else _tensor() for group in groups]
    sequence = schema.TypeSequence(nested_types=items)
    container = (
        schema.TypeContainer(nested_type_tuple=sequence)
        if depth == 0
        else schema.TypeContainer(nested_type_list=sequence)
    )
    return schema.NestedTypeWrapper(nested_types=container)


def _tensor() -> schema.NestedTypeWrapper:
    descriptor = schema.InputTypeDescriptor(type_name=_TENSOR)
    return schema.NestedTypeWrapper(nested_types=schema.TypeContainer(nested_type=descriptor))
