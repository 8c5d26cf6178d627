"""The arguments of an operation: filled in with defaults, shortened, and as PyTorch takes them."""

from collections.abc import Mapping, Sequence

import torch

from fedplan.errors import PlanFormatError
from fedplan.plan.ir.graph import Arg, Node, Ref, exact
from fedplan.plan.ops import DTYPES, Argument, dtype_name, lookup, row


def padded(node: Node) -> tuple[Arg, ...]:
    """The arguments with the schema's defaults for those that were left out."""
    rest = row(node.op).arguments[len(node.args) :]
    return (*node.args, *(normal(argument.default) for argument in rest))


def with_named(op: str, given: Sequence[Arg], named: Mapping[str, Arg]) -> tuple[Arg, ...]:
    """All arguments of an operation in order, of which some are given by name.

    Raises:
        UnsupportedOpError: the op table has no such operation.
        PlanFormatError: it has no argument of such a name, or one is given twice or not at all.
    """
    rest = lookup(op).arguments[len(given) :]
    unknown = named.keys() - {argument.name for argument in rest}
    missing = [a.name for a in rest if a.required and a.name not in named]
    if unknown or missing:
        names = ", ".join(sorted(unknown) or missing)
        problem = "are given by name and are none of its further arguments" if unknown else "are missing"
        raise PlanFormatError(f"the action '{op}' with {len(given)} arguments: {names} {problem}")
    return (*given, *(named.get(a.name, normal(a.default)) for a in rest))


def normal(value: object) -> Arg:
    """A schema's default or a traced argument in the form in which the IR holds it.

    Raises:
        PlanFormatError: a Plan has no place for such a value.
    """
    if isinstance(value, torch.dtype):
        return dtype_name(value)
    if isinstance(value, list | tuple) and not isinstance(value, Ref):
        return tuple(map(normal, value))
    if value is None or isinstance(value, Ref | bool | int | float | str):
        return value
    raise PlanFormatError(f"an argument of the type {type(value).__name__} has no place in a Plan: {value!r}")


def trim(arguments: Sequence[Argument], values: Sequence[Arg]) -> tuple[Arg, ...]:
    """The values of an operation's arguments without the trailing ones that only repeat the default."""
    kept = list(values)
    for argument in reversed(arguments[: len(kept)]):
        if argument.required or exact(kept[-1]) != exact(normal(argument.default)):
            break
        kept.pop()
    return tuple(kept)


Bound = Arg | torch.dtype | torch.device

_TAKE_TRUTH = ("bool", "number", "Tensor")
"""Types of arguments that may be given as True or False; PyTorch's two ways of calling differ on others."""


def bind(node: Node, device: torch.device | None = None) -> tuple[tuple[Bound, ...], dict[str, Bound]]:
    """A node's arguments as PyTorch takes them: required ones by position, the others by name.

    Args:
        node: the operation.
        device: where operations that make tensors from nothing put them.

    Raises:
        PlanFormatError: more or fewer arguments than the operator takes, or an unknown dtype.
    """
    arguments = row(node.op).arguments
    if len(node.args) > len(arguments) or any(a.required for a in arguments[len(node.args) :]):
        raise PlanFormatError(f"'{node}' has {len(node.args)} arguments, which does not fit the operator")
    positional: list[Bound] = []
    keywords: dict[str, Bound] = {}
    for argument, value in zip(arguments, node.args, strict=False):
        given: Bound = value
        if "ScalarType" in argument.type and value is not None:
            if not isinstance(value, str) or value not in DTYPES:
                raise PlanFormatError(f"'{node}' names the dtype {value!r}; a Plan's are {', '.join(DTYPES)}")
            given = DTYPES[value]
        if isinstance(value, bool) and not any(kind in argument.type for kind in _TAKE_TRUTH):
            raise PlanFormatError(f"'{node}' gives {value} for the number '{argument.name}'")
        if argument.keyword or not argument.required:
            keywords[argument.name] = given
        else:
            positional.append(given)
    if device is not None and row(node.op).takes_device:
        keywords["device"] = device
    return tuple(positional), keywords
