"""Inputs to try a Plan with: the same for everybody who has the same seed."""

from collections.abc import Callable, Sequence

import torch

from fedplan.errors import PlanExecutionError, PlanFormatError
from fedplan.plan.ir.graph import Graph
from fedplan.plan.ops import DTYPES
from fedplan.plan.run.interpreter import interpret
from fedplan.plan.signature import PlanInput
from fedplan.plan.spec import PlanInputSpec

_BOUNDS = (1000, 100, 10, 4, 3, 2, 1)
"""Integers are drawn below the first of these with which the Plan runs: class numbers, words."""


def samples(
    graph: Graph,
    inputs: Sequence[PlanInput],
    rows: int,
    model: Sequence[torch.Tensor] | None = None,
    seed: int = 0,
) -> list[torch.Tensor]:
    """Arguments for a Plan, with which its op list gives finite results, if any that are tried do.

    Args:
        graph: the Plan's operations.
        inputs: the Plan's inputs.
        rows: extent of dimensions of any size.
        model: the model's parameters; random ones by default.
        seed: of the random numbers.

    Raises:
        PlanFormatError: an input does not say its shape or dtype.
        PlanExecutionError: the op list runs with none of the inputs that were tried.
    """
    failure: PlanExecutionError | None = None
    ran: list[torch.Tensor] | None = None
    for positive in (False, True):  # a variance or a second moment must not be negative
        for bound in _BOUNDS:
            arguments = _draw(inputs, rows, model, bound, positive, seed)
            try:
                outputs = interpret(graph, arguments)
            except PlanExecutionError as error:
                failure = error
                continue
            if all(bool(torch.isfinite(value).all()) for value in outputs):
                return arguments
            ran = ran or arguments
            break  # integers fit; the numbers do not
    if ran is not None:
        return ran
    raise failure or PlanExecutionError("the Plan's op list runs with none of the inputs that were tried")


def _draw(
    inputs: Sequence[PlanInput],
    rows: int,
    model: Sequence[torch.Tensor] | None,
    bound: int,
    positive: bool,
    seed: int,
) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [_one(item, rows, model, bound, positive, random) for item in inputs]


def _one(
    item: PlanInput,
    rows: int,
    model: Sequence[torch.Tensor] | None,
    bound: int,
    positive: bool,
    random: torch.Generator,
) -> torch.Tensor:
    if item.shape is None or item.dtype is None:
        raise PlanFormatError(
            f"the Plan does not say the shape and dtype of its input '{item.name}'; give the inputs to try"
        )
    kind = None if item.spec is None else item.spec.type
    index = 0 if item.spec is None or item.spec.index is None else item.spec.index
    if kind == PlanInputSpec.TYPE_MODEL_PARAM and model is not None and index < len(model):
        return model[index].detach()
    shape = [rows if extent is None else extent for extent in item.shape]
    dtype = DTYPES[item.dtype]
    if kind == PlanInputSpec.TYPE_OPTIMIZER_STATE and positive:
        return torch.zeros(shape, dtype=dtype)  # as at the start of a cycle
    draw: Callable[..., torch.Tensor] | None = _DRAWN.get(kind)
    if draw is not None:
        drawn = draw(shape, rows, random)
        return drawn.to(dtype) if dtype.is_floating_point else drawn.ceil().to(dtype)
    if dtype == torch.bool:
        return torch.randint(0, 2, shape, generator=random).to(dtype)
    if not dtype.is_floating_point:
        return torch.randint(0, bound, shape, generator=random).to(dtype)
    numbers = torch.randn(shape, generator=random) * 0.5
    return (numbers.abs() + 0.1 if positive else numbers).to(dtype)


def _rate(shape: list[int], rows: int, random: torch.Generator) -> torch.Tensor:
    return torch.rand(shape, generator=random) * 0.1 + 0.1


def _size(shape: list[int], rows: int, random: torch.Generator) -> torch.Tensor:
    return torch.full(shape, rows)


def _kept(shape: list[int], rows: int, random: torch.Generator) -> torch.Tensor:
    """What an optimizer keeps may not be negative; a count is a whole number."""
    if shape in ([], [1]):
        return torch.full(shape, 3.0)
    return torch.rand(shape, generator=random) * 0.1


_DRAWN: dict[str | None, Callable[[list[int], int, torch.Generator], torch.Tensor]] = {
    PlanInputSpec.TYPE_CLIENT_CONFIG_PARAM: _rate,
    PlanInputSpec.TYPE_BATCH_SIZE: _size,
    PlanInputSpec.TYPE_OPTIMIZER_STATE: _kept,
}
"""Inputs that stand for something whose numbers are of a kind."""
