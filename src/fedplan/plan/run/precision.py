"""A Plan computes in the dtypes that it names, also where a program has PyTorch choose others."""

import contextlib

import torch


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """While it lasts, `torch.autocast` changes nothing on a device."""
    kind = device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return _NOTHING


_NOTHING = contextlib.nullcontext()
