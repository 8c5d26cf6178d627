"""Runs a TorchScript archive with a Plan's flat arguments, and shows the values on its way."""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from fedplan.errors import PlanExecutionError, PlanFormatError, PlanInputError
from fedplan.plan.run.interpreter import KERNEL_ERRORS
from fedplan.plan.variants.torchscript.safety import check_operators, check_source

_VALUE = re.compile(r"v(\d+)(?:\.\d+)?")
"""The name of a value of the Plan; torch numbers the variables of a name."""


def run(data: bytes, arguments: Sequence[Tensor]) -> list[Tensor]:
    """Loads a TorchScript archive in this process and runs it.

    It may use the operators of the op table and no others. Their arguments are not checked as those of an op
    list are, and some kernels trust them: give it no archives of strangers in a process that holds secrets.

    Args:
        data: an archive of `write`, or one that PySyft made (the field `torchscript` of its message).
        arguments: the Plan's arguments, flat and in order; packed into lists here as the archive's own
            signature says. PySyft's archives take the Plan's state after them. They are not changed.

    Returns:
        The outputs, flat and in order.

    Raises:
        PlanFormatError: `data` is not a TorchScript archive, or its source does not compile.
        PlanInputError: more or fewer arguments than it takes.
        PlanExecutionError: an operation failed.
    """
    module = load(data)
    return list(_flat(_call(module, module._c._get_method("forward").graph, arguments)))


def values(data: bytes, arguments: Sequence[Tensor]) -> dict[int, Tensor]:
    """The tensors that an archive of `write` computes on its way, by the numbers of the Plan's values.

    Args:
        data: an archive of `write`.
        arguments: see `run`.

    Returns:
        One tensor for each value that an operation of the Plan makes, in the order of the operations; sizes
        are left out.

    Raises:
        PlanError: see `run`.
    """
    module = load(data)
    graph = module._c._get_method("forward").graph.copy()
    shown = {
        int(match[1]): value
        for node in graph.nodes()
        for value in node.outputs()
        if (match := _VALUE.fullmatch(value.debugName())) and _kind(value) == "TensorType"
    }
    everything = graph.create("prim::ListConstruct", [*shown.values()], 1)
    everything.output().setType(torch._C.ListType(torch._C.TensorType.get()))
    graph.appendNode(everything)
    graph.eraseOutput(0)
    graph.registerOutput(everything.output())
    call = torch._C._create_function_from_graph("values", graph)
    made = _call(lambda *packed: call(module._c, *packed), graph, arguments)
    return dict(zip(shown, made, strict=True))


def load(data: bytes) -> Any:
    """An archive as a module of this process, if it only computes.

    Raises:
        PlanFormatError: `data` is not a TorchScript archive, its source does not compile, or it has code that
            runs when it is loaded.
        UnsupportedOpError: it uses an operator that no Plan may use.
    """
    check_source(data)
    try:
        with warnings.catch_warnings():  # today's torch has TorchScript's successor in mind; phones do not
            warnings.simplefilter("ignore", DeprecationWarning)
            module: Any = torch.jit.load(  # type: ignore[no-untyped-call]
                io.BytesIO(data), map_location="cpu"
            )
    except KERNEL_ERRORS as error:
        raise PlanFormatError(f"the TorchScript archive cannot be loaded: {error}") from error
    inlined = module._c._get_method("forward").graph.copy()
    torch._C._jit_pass_inline(inlined)
    check_operators(inlined)
    return module


def _call(function: Any, graph: Any, arguments: Sequence[Tensor]) -> Any:
    """Calls a function of a module with arguments packed as its graph takes them."""
    rest = [argument.detach().clone() for argument in arguments]
    given = len(rest)
    parameters = [*graph.inputs()][1:]
    packed = [_pack(value, rest, last=value is parameters[-1]) for value in parameters]
    if rest:
        raise PlanInputError(f"the TorchScript archive takes {given - len(rest)} arguments, not {given}")
    try:
        # what is run once is not worth optimizing
        with (
            torch.no_grad(),
            torch.jit.optimized_execution(False),  # type: ignore[attr-defined]
            warnings.catch_warnings(),
        ):
            # torch 1.8 has no other functions for these than those that are deprecated today
            warnings.filterwarnings(
                "ignore", r"torch\.\w+ is deprecated in favor of torch\.linalg", UserWarning
            )
            return function(*packed)
    except (*KERNEL_ERRORS, torch.jit.Error) as error:
        raise PlanExecutionError(f"the TorchScript archive failed: {error}") from error


def _pack(value: Any, rest: list[Tensor], last: bool) -> Any:
    """Takes from `rest` what a parameter holds: one tensor, or as many as the source unpacks."""
    if _kind(value) == "ListType":
        unpacked = [use.user for use in value.uses() if use.user.kind() == "prim::ListUnpack"]
        if unpacked:
            return [_pack(element, rest, last=False) for element in unpacked[0].outputs()]
        taken = len(rest) if last else 0
        return [rest.pop(0) for _ in range(taken)]
    if not rest:
        raise PlanInputError("the TorchScript archive takes more arguments")
    return rest.pop(0)


def _kind(value: Any) -> str:
    kind: str = value.type().kind()
    return kind


def _flat(outputs: Any) -> Iterator[Tensor]:
    if isinstance(outputs, Tensor):
        yield outputs
    else:
        for output in outputs:
            yield from _flat(output)
