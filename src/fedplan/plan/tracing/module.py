"""Which tensors of an `nn.Module` are the model."""

import torch
from torch import nn


def module_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of a module that are hosted and trained, by name, in the order in which Plans take them.

    These are its parameters, then its floating-point buffers (the running statistics of a batch norm).
    Other buffers, such as counters, stay with the module.
    """
    state = {name: p.detach() for name, p in model.named_parameters()}
    return state | {name: b.detach() for name, b in model.named_buffers() if b.is_floating_point()}


def model_parameters(model: nn.Module) -> list[torch.Tensor]:
    """The tensors of `module_state`, in its order: what is hosted as the model."""
    return list(module_state(model).values())
