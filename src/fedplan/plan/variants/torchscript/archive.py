"""The zip archive that TorchScript is loaded from."""

import io
import struct
import zipfile
from collections.abc import Iterator, Sequence

import torch

from fedplan.plan.variants.torchscript import pickles

_FOLDER = "plan"
"""The folder inside the archive that holds everything; it may have any name, but must have one."""

_VERSION = 5
"""Of the file format: the newest one that torch 1.7 and 1.8 read.

A reader gives programs of older versions their older meaning: from 4 on `div` of whole numbers is a fraction,
from 5 on `full` of a whole number is whole."""

_ALIGNMENT = 64
"""Records begin at multiples of it, so that a reader may map them into memory."""

_HEADER = 30
"""Length of a zip record's header without the name and the extra field."""

_PADDING = 0x4246
"""The extra field's id, as torch writes it: "FB"."""


def archive(kind: str, source: str, tensors: Sequence[tuple[str, torch.Tensor]]) -> bytes:
    """A TorchScript archive of one module.

    Args:
        kind: name of the module's class.
        source: the text that defines this class.
        tensors: the module's attributes by name.
    """
    buffer = io.BytesIO()
    whole = [(name, tensor.detach().cpu().contiguous()) for name, tensor in tensors]
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        for name, data in _records(kind, source, whole):
            path = f"{_FOLDER}/{name}"
            record = zipfile.ZipInfo(path)  # dated 1980: the same Plan gives the same bytes
            free = -(buffer.tell() + _HEADER + len(path) + 4) % _ALIGNMENT
            record.extra = struct.pack("<HH", _PADDING, free) + b"Z" * free
            file.writestr(record, data)
    return buffer.getvalue()


def _records(
    kind: str, source: str, tensors: Sequence[tuple[str, torch.Tensor]]
) -> Iterator[tuple[str, bytes]]:
    yield "version", f"{_VERSION}\n".encode()
    yield "data.pkl", pickles.module(kind, tensors)
    yield "code/__torch__.py", source.encode()
    for key, (_, tensor) in enumerate(tensors):
        yield f"data/{key}", _contents(tensor)
    yield "constants.pkl", pickles.EMPTY


def _contents(tensor: torch.Tensor) -> bytes:
    """A tensor's elements, little-endian, one after the other."""
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
