"""Where a worker trains: on the CPU, or on an accelerator that PyTorch finds here."""

import torch

from fedplan.errors import ConfigError

Device = str | torch.device | None
"""What users name a device by: ``"cuda"``, ``"cuda:1"``, ``"mps"``, a `torch.device`; None for the CPU."""

CPU = torch.device("cpu")

_LONGEST_REASON = 200


def usable_device(device: Device) -> torch.device:
    """The device of that name, on which a tensor was made to see that it works.

    Raises:
        ConfigError: there is no such device here, or none of that name anywhere.
    """
    try:
        found = torch.device("cpu" if device is None else device)
        if found.type != "meta":  # which has no values
            return torch.zeros(1, device=found).device
        reason = "it holds no values"
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
    raise ConfigError(
        f"there is no training on the device {device!r} here: {reason}. PyTorch finds {', '.join(_found())}"
    )


def put(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on a device, itself if it is there already.

    Raises:
        ConfigError: the device cannot hold it, as those of Apple cannot hold float64.
    """
    if tensor.device == device:
        return tensor
    try:
        return tensor.to(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(
            f"a tensor of {str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)} cannot be moved to "
            f"the device '{device}': {' '.join(str(error).split())[:_LONGEST_REASON]}. Train on the CPU"
        ) from error


def _found() -> list[str]:
    names = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    return [*names, "mps"] if torch.backends.mps.is_available() else names
