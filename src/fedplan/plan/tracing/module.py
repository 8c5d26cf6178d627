"""Which tensors of an `nn.Module` are the model."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import is_lazy

from fedplan.errors import TraceError

_COUNTERS_TRAVEL_AS = torch.int32
"""The dtype of whole numbers and truth values in a hosted model: browsers load float32 and int32 only."""


def module_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of a module that are hosted and trained, by name, in the order in which Plans take them.

    These are its parameters, then its floating-point buffers (the running statistics of a batch norm), then
    its other buffers that belong to its `state_dict` (counters, tables), but for the `num_batches_tracked` of
    batch norms that do not use it.

    Returns:
        The module's own tensors, detached: what is written to them is written to the module.

    Raises:
        TraceError: a parameter has no shape yet.
    """
    tensors: dict[str, torch.Tensor] = dict(model.named_parameters())
    tensors |= {name: buffer for name, buffer in model.named_buffers() if buffer.is_floating_point()}
    tensors |= {name: buffer for name, buffer in _counters(model).items() if name not in tensors}
    for name, tensor in tensors.items():
        if is_lazy(tensor):
            raise TraceError(
                f"the parameter '{name}' of {_owner(model, name)} has no shape yet: run the model on a batch "
                "once, so that its lazy layers find their sizes"
            )
    return {name: tensor.detach() for name, tensor in tensors.items()}


def _owner(model: nn.Module, name: str) -> str:
    """The class of the layer that holds a tensor of this name."""
    return type(model.get_submodule(name.rpartition(".")[0])).__name__


def module_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of `module_tensors` as they travel: whole numbers and truth values as int32.

    A buffer with numbers that int32 does not hold travels in its own dtype, and browsers cannot train such a
    model. Floating-point tensors are the module's own, detached.
    """
    return {name: as_travelling(tensor) for name, tensor in module_tensors(model).items()}


def model_parameters(model: nn.Module) -> list[torch.Tensor]:
    """The tensors of `module_state`, in its order: what is hosted as the model."""
    return list(module_state(model).values())


def as_travelling(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of a module in the dtype in which it is hosted."""
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == _COUNTERS_TRAVEL_AS:
        return tensor
    bounds = torch.iinfo(_COUNTERS_TRAVEL_AS)
    fits = (
        tensor.numel() == 0 or tensor.is_meta or (tensor.min() >= bounds.min and tensor.max() <= bounds.max)
    )
    return tensor.to(_COUNTERS_TRAVEL_AS) if fits else tensor


def _counters(model: nn.Module) -> dict[str, torch.Tensor]:
    """The buffers of a module's `state_dict` that are no floating-point numbers."""
    found: dict[int, tuple[str, torch.Tensor]] = {}
    for prefix, module in model.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            kept = name not in module._non_persistent_buffers_set
            if kept and not buffer.is_floating_point() and not _is_unused(module, name):
                found.setdefault(id(buffer), (f"{prefix}.{name}" if prefix else name, buffer))
    return dict(found.values())


def idle_counters(model: nn.Module) -> dict[str, torch.Tensor]:
    """The buffers of a module on which nothing depends that it computes, by name."""
    return {
        f"{prefix}.{name}" if prefix else name: buffer
        for prefix, module in model.named_modules()
        for name, buffer in module.named_buffers(recurse=False)
        if _is_unused(module, name)
    }


def _is_unused(module: nn.Module, name: str) -> bool:
    """Whether nothing that the module computes depends on a buffer."""
    return isinstance(module, _NormBase) and name == "num_batches_tracked" and module.momentum is not None
