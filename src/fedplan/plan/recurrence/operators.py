"""`torch.ops.fedplan.*`: the recurrent operations as operators of PyTorch, with autograd.

A tracer records each call as one node, and its gradient as one other. The kernels are the reference. They
work on every device; on the meta device, and for a tracer's stand-ins, only shapes are computed.
"""

from collections.abc import Callable
from typing import Any

import torch

from fedplan.plan.recurrence import reference
from fedplan.plan.recurrence.schema import RECURRENCES, Recurrence, refusal, results


def operator(name: str) -> "torch._ops.OpOverload":
    """The operator of a recurrent operation, such as ``lstm``."""
    found: torch._ops.OpOverload = getattr(torch.ops.fedplan, name).default
    return found


def _checked(recurrence: Recurrence, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which refuses what does not fit before it computes.

    Raises:
        ValueError: the shapes, dtypes or devices of the arguments do not fit.
    """

    def kernel(*args: Any) -> Any:
        refused = refusal(recurrence, args)
        if refused is not None:
            raise ValueError(f"{recurrence.name}: {refused}")
        return function(*args)

    return kernel


def _shapes(recurrence: Recurrence) -> Callable[..., Any]:
    return _checked(recurrence, lambda *args: results(recurrence, args))


def _split(backward: Recurrence) -> tuple[list[str], list[str]]:
    """Names of the gradients that a gradient operation starts from, and of the tensors behind them."""
    tensors = [name for name in backward.names if name != "reverse"]
    start = [name for name in tensors if name.startswith("grad_")]
    return start, tensors[len(start) :]


def _keep(recurrence: Recurrence, backward: Recurrence) -> Callable[..., None]:
    """What autograd notes when the operation has run."""
    gradients, needed = _split(backward)

    def setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
        values = dict(zip((*recurrence.names, *recurrence.results), (*inputs, *output), strict=True))
        ctx.save_for_backward(*(values[name] for name in needed))
        ctx.reverse = values["reverse"]
        ctx.set_materialize_grads(False)
        saved = output[len(gradients) :]
        if saved:
            ctx.mark_non_differentiable(*saved)

    return setup


def _gradient(recurrence: Recurrence, backward: Recurrence) -> Callable[..., Any]:
    """Autograd's formula: one call of the gradient operation."""
    gradients, _ = _split(backward)

    def gradient(ctx: Any, *grads: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        made = operator(backward.name)(*grads[: len(gradients)], *ctx.saved_tensors, ctx.reverse)
        found = {
            name.removeprefix("grad_"): value for name, value in zip(backward.results, made, strict=True)
        }
        if "b" in found:
            found |= {"b_ih": found["b"], "b_hh": found["b"]}
        names = recurrence.names[: len(ctx.needs_input_grad)]  # defaults that nobody gave are no inputs
        return tuple(
            found.get(name) if needed else None
            for name, needed in zip(names, ctx.needs_input_grad, strict=True)
        )

    return gradient


def _no_second_gradient(ctx: Any, *grads: Any) -> Any:
    raise NotImplementedError(
        "the gradient of a recurrent layer has no gradient of its own here; for second derivatives write the "
        "steps with nn.LSTMCell, nn.GRUCell or nn.RNNCell"
    )


def _register() -> Any:
    """Makes the operators known to PyTorch for as long as the library that is returned lives.

    Not `torch.library.custom_op`: its first call imports PyTorch's compiler, which takes a second.
    """
    library: Any = torch.library.Library("fedplan", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name, recurrence in RECURRENCES.items():
        library.define(recurrence.schema, tags=(torch.Tag.pt2_compliant_tag,))
        kernel = _checked(recurrence, getattr(reference, name))
        library.impl(name, kernel, "CompositeExplicitAutograd")
        library.impl(name, _shapes(recurrence), "Meta")
        if recurrence.is_backward:
            torch.library.register_autograd(f"fedplan::{name}", _no_second_gradient, lib=library)
            continue
        backward = RECURRENCES[f"{name}_backward"]
        torch.library.register_autograd(
            f"fedplan::{name}",
            _gradient(recurrence, backward),
            setup_context=_keep(recurrence, backward),
            lib=library,
        )
    return library


if "_LIBRARY" not in globals():  # a module that is loaded again finds its old names
    _LIBRARY = _register()
