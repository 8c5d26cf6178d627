"""torch tensors ↔ wire tensors."""

import torch

from fedplan.errors import TensorEncodingError
from fedplan.plan.ops import DTYPES, dtype_name
from fedplan.wire import WireTensor

_QUANTIZED = ("qint8", "quint8", "qint32")


def to_torch(tensor: WireTensor) -> torch.Tensor:
    """A torch tensor with its own, writable memory.

    Args:
        tensor: values of any dtype of the wire; quantized ones become float32, scale · (q − zero point).
    """
    array = tensor.array
    if tensor.dtype == "bfloat16":
        return torch.from_numpy(array.astype("<i2")).view(torch.bfloat16)
    values = torch.from_numpy(array.copy())
    if tensor.dtype in _QUANTIZED:
        return (values.to(torch.float32) - tensor.zero_point) * tensor.scale
    return values


def from_torch(tensor: torch.Tensor) -> WireTensor:
    """The wire form of a torch tensor; it shares the tensor's memory when that is contiguous and on the CPU.

    Raises:
        TensorEncodingError: the wire has no such dtype (complex, for one).
    """
    plain = tensor.detach().cpu()
    name = dtype_name(plain.dtype)
    if name in _QUANTIZED:
        integers = plain.int_repr().contiguous().numpy()
        return WireTensor(integers, name, float(plain.q_scale()), int(plain.q_zero_point()))
    if name not in DTYPES:
        raise TensorEncodingError(
            f"a tensor of the dtype {name} cannot be sent; convert it to one of {', '.join(DTYPES)}"
        )
    plain = plain.contiguous()
    if name == "bfloat16":
        return WireTensor(plain.view(torch.int16).numpy().view("<u2"), name)
    return WireTensor(plain.numpy(), name)
