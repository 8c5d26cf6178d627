"""A function is traced on the CPU, wherever its tensors are: a Plan does not say where it runs.

PyTorch has other kernels on other devices (attention, dropout and recurrent layers of CUDA), and a tracer
that saw those would record what other machines do not have.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _disable_current_modes

Function = Callable[..., Any]

_HERE = ("cpu", "meta")
_CPU = torch.device("cpu")


class OnCpu(TorchFunctionMode):
    """Lets a function that uses other devices compute on the CPU.

    Tensors that it holds elsewhere are copied, and devices that it names (``device="cuda"``,
    ``x.to("cuda")``, ``x.cuda()``) are the CPU, also on a machine that does not have them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._copies: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # by the id of the author's tensor

    def origin(self, tensor: torch.Tensor) -> torch.Tensor:
        """The author's tensor that a tensor is the copy of; itself if it is none."""
        return next((held for held, copy in self._copies.values() if copy is tensor), tensor)

    def __torch_function__(
        self, func: Function, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if options.get("device") is not None:
            options["device"] = _here(options["device"])
        if func is torch.Tensor.to and len(args) > 1:
            args = (args[0], _here(args[1]), *args[2:])
        elif func is torch.Tensor.cuda:
            func, args, options = torch.Tensor.to, (args[0], _CPU), {}
        if any(map(_is_elsewhere, args)) or any(map(_is_elsewhere, options.values())):
            args, options = pytree.tree_map(self._moved, (args, options), is_leaf=_is_size)
        return func(*args, **options)

    def _moved(self, value: Any) -> Any:
        if isinstance(value, torch.device):
            return _here(value)
        if not isinstance(value, torch.Tensor) or not _is_elsewhere(value):
            return value
        if id(value) not in self._copies:
            with _disable_current_modes():  # no operation of the function, but a tensor that it holds
                copy = value.detach().to(_CPU, copy=True).requires_grad_(value.requires_grad)
            self._copies[id(value)] = (value, copy)
        return self._copies[id(value)][1]


def _is_elsewhere(value: Any) -> bool:
    """Whether it is a tensor or device that is not here, or holds one."""
    if isinstance(value, FakeTensor | int | float | str) or value is None:
        return False
    if isinstance(value, torch.Tensor):
        return value.device.type not in _HERE
    if isinstance(value, torch.device):
        return value.type not in _HERE
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return False
    return any(map(_is_elsewhere, value))


def _is_size(value: Any) -> bool:
    """A shape stays one: as a tuple, ``x.new(shape)`` would take it for data."""
    return isinstance(value, torch.Size)


def _here(device: Any) -> Any:
    """The device to use for one that the author names; anything else is passed through."""
    if isinstance(device, bool) or not isinstance(device, str | int | torch.device):
        return device
    kind = device.type if isinstance(device, torch.device) else str(device).partition(":")[0]
    return device if kind in _HERE else _CPU
