"""Which tensors a function may hold itself: those that stay as they are."""

from collections.abc import Mapping

import torch
from torch.fx import Node

from fedplan.errors import TraceError
from fedplan.plan.tracing import ways_out, words
from fedplan.plan.tracing.symbolic import Recording


def check_held_tensors(
    recording: Recording, own: Mapping[str, torch.Tensor], counters: Mapping[str, torch.Tensor]
) -> None:
    """Refuses tensors that would become the Plan's state although they change from step to step.

    Args:
        recording: what the function did.
        own: tensors of the author's model by name.
        counters: those of its buffers that are left out of a Plan, since no layer of PyTorch reads them.

    Raises:
        TraceError: the function writes to a tensor that it holds, a gradient goes to it, or it is the
            model's.
    """
    if any(map(torch._C._functorch.is_functorch_wrapped_tensor, recording.origins)):
        raise TraceError(
            f"a tensor of `torch.func` is used outside of its function, as `jvp` does. {ways_out.BACKWARD}"
        )
    memory = {tensor.untyped_storage().data_ptr(): name for name, tensor in own.items() if tensor.numel()}
    for tensor, origin in zip(recording.constants, recording.origins, strict=True):
        name = memory.get(origin.untyped_storage().data_ptr())
        what = f"a tensor of the shape {list(tensor.shape)}" if name is None else f"the model's '{name}'"
        if id(tensor) in recording.written:
            raise TraceError(
                f"the step writes to {what}, which is no input of it. A Plan would begin with the same "
                "values each time. Make it a buffer of the model (`register_buffer`), or an input"
            )
        if id(tensor) in recording.differentiated:
            raise TraceError(
                f"a gradient goes to {what}, which is no input of the step. A Plan would keep it as it is "
                "now. Make it an input, or part of the model"
            )
        if name is not None:
            raise TraceError(
                f"the step reads {what} past the model's own attributes, and a Plan would keep its values of "
                "now. Read it where it is used (`model.parameters()`, `model.layer.weight`), not from a list "
                "that was made before"
            )
    _check_counters(recording, counters)
    copied = [name for tensor in recording.constants for name in _equals(tensor, own)]
    if copied:
        names = ", ".join(map(repr, copied[:5]))
        words.warn(
            f"the Plan keeps tensors that equal the model's {names} as they are now. "
            "In later cycles the model is another one, and these copies stay"
        )


def _check_counters(recording: Recording, counters: Mapping[str, torch.Tensor]) -> None:
    names = {counter.untyped_storage().data_ptr(): name for name, counter in counters.items()}
    inputs = [node for node in recording.module.graph.nodes if node.op == "placeholder"]
    held = inputs[len(inputs) - len(recording.origins) :]
    for node, origin in zip(held, recording.origins, strict=True):
        name = names.get(origin.untyped_storage().data_ptr())
        if name is not None and _is_read(node):
            raise TraceError(
                f"the step reads '{name}', in which a batch norm counts, and a Plan leaves that out. Count "
                "in a buffer of your own (`register_buffer`), to which the model writes"
            )


def _is_read(node: Node) -> bool:
    """Whether a result of a graph depends on a node."""
    waiting, seen = [node], {node}
    while waiting:
        for user in waiting.pop().users:
            if user.op == "output":
                return True
            if user not in seen:
                seen.add(user)
                waiting.append(user)
    return False


def _equals(tensor: torch.Tensor, own: Mapping[str, torch.Tensor]) -> list[str]:
    """The names of the model's tensors with the same values, where these are not all the same number."""
    if tensor.numel() <= 1 or bool((tensor == tensor.flatten()[0]).all()):
        return []
    alike = {n: t for n, t in own.items() if t.shape == tensor.shape and t.dtype == tensor.dtype}
    return [name for name, theirs in alike.items() if torch.equal(theirs.cpu(), tensor.cpu())]
