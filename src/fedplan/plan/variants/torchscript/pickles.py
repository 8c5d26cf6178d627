"""The two pickles of a TorchScript archive, opcode by opcode.

Python's own pickler would have to be given classes that do not exist (``__torch__.Plan``), and would use
opcodes that TorchScript's reader does not know. What is needed is one object with a few attributes.
"""

import pickle
import struct
from collections.abc import Sequence

import torch

_STORAGES = {
    torch.uint8: "ByteStorage",
    torch.int8: "CharStorage",
    torch.int16: "ShortStorage",
    torch.int32: "IntStorage",
    torch.int64: "LongStorage",
    torch.float16: "HalfStorage",
    torch.float32: "FloatStorage",
    torch.float64: "DoubleStorage",
    torch.bool: "BoolStorage",
    torch.bfloat16: "BFloat16Storage",
}

EMPTY = pickle.PROTO + b"\x02" + pickle.EMPTY_TUPLE + pickle.STOP
"""An empty tuple: the archive's constants, which live in the module instead."""


def module(kind: str, tensors: Sequence[tuple[str, torch.Tensor]]) -> bytes:
    """The pickle of a module.

    Args:
        kind: name of its class in ``__torch__``.
        tensors: its attributes by name. The elements of the n-th are the archive's record ``data/n``.
    """
    attributes = _text("training") + pickle.NEWFALSE
    attributes += b"".join(_text(name) + _tensor(str(key), t) for key, (name, t) in enumerate(tensors))
    return b"".join(
        (
            pickle.PROTO + b"\x02",
            _global("__torch__", kind) + pickle.EMPTY_TUPLE + pickle.NEWOBJ,
            pickle.EMPTY_DICT + pickle.MARK + attributes + pickle.SETITEMS + pickle.BUILD,
            pickle.STOP,
        )
    )


def _tensor(key: str, tensor: torch.Tensor) -> bytes:
    """A call of the function that makes a tensor of a storage: of all its elements, in order."""
    storage = _tuple(
        _text("storage"),
        _global("torch", _STORAGES[tensor.dtype]),
        _text(key),
        _text("cpu"),
        _number(tensor.numel()),
    )
    shape, stride = (_tuple(*map(_number, numbers)) for numbers in (tensor.shape, _strides(tensor.shape)))
    no_hooks = _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
    arguments = _tuple(storage + pickle.BINPERSID, _number(0), shape, stride, pickle.NEWFALSE, no_hooks)
    return _global("torch._utils", "_rebuild_tensor_v2") + arguments + pickle.REDUCE


def _strides(shape: Sequence[int]) -> list[int]:
    strides = [1]
    for extent in reversed(shape[1:]):
        strides.append(strides[-1] * max(extent, 1))
    return strides[::-1] if shape else []


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _text(text: str) -> bytes:
    data = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def _number(number: int) -> bytes:
    if -(2**31) <= number < 2**31:
        return pickle.BININT + struct.pack("<i", number)
    return pickle.LONG1 + b"\x08" + struct.pack("<q", number)


def _tuple(*items: bytes) -> bytes:
    return pickle.MARK + b"".join(items) + pickle.TUPLE if items else pickle.EMPTY_TUPLE
