"""Which operators an archive may use before it is run here: those of the op table and a few around them.

TorchScript can do more than compute: it can map files into memory, for one. What a grid or a file gives may
come from anybody.
"""

import io
import re
import zipfile
from collections.abc import Iterator
from typing import Any

from fedplan.errors import PlanFormatError, UnsupportedOpError
from fedplan.plan.ops import OPS
from fedplan.plan.variants.torchscript import library

_CALLS = re.compile(r"torch\.(\w+)\(")

_TEXTS = (
    *library.FUNCTIONS.values(),
    *(op.torchscript for op in OPS.values() if isinstance(op.torchscript, str)),
)
_SAID = {name for text in _TEXTS for name in _CALLS.findall(text)}

_BY_PYSYFT = frozenset(("_convolution", "broadcast_tensors", "detach", "view"))

_TODAY = frozenset(("linalg_det", "linalg_inv"))
"""What PyTorch makes of `det` and `inverse` when it loads them."""

_DRAWS = frozenset(("rand", "randn"))
"""What random inputs become."""

_NUMBERS = frozenset(("Bool", "Float", "Int", "__getitem__", "__is__", "__isnot__", "__not__", "append"))
"""What the source's own arithmetic and lists become."""

_ALLOWED = frozenset({name.split(".")[1] for name in OPS} | _SAID | _TODAY | _BY_PYSYFT | _DRAWS | _NUMBERS)

_FLOW = frozenset(
    f"prim::{kind}"
    for kind in (
        "Constant", "GetAttr", "If", "ListConstruct", "ListUnpack", "Loop", "NumToTensor", "RaiseException",
        "TupleConstruct", "TupleUnpack", "Uninitialized", "device", "dtype", "max", "min", "unchecked_cast",
    )
)  # fmt: skip


def check_source(data: bytes) -> None:
    """Refuses an archive with code that runs when it is loaded.

    Raises:
        PlanFormatError: it has some, or is not an archive.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            texts = [archive.read(name) for name in archive.namelist() if name.endswith(".py")]
    except (zipfile.BadZipFile, EOFError, ValueError, OSError, NotImplementedError, RuntimeError) as error:
        raise PlanFormatError(f"the TorchScript archive cannot be loaded: {error}") from None
    if any(b"__setstate__" in text for text in texts):
        raise PlanFormatError("the TorchScript archive runs code when it is loaded; it is not run here")


def check_operators(graph: Any) -> None:
    """Refuses a graph, its calls inlined, that does anything but compute.

    Raises:
        UnsupportedOpError: names the first operator that is not allowed.
    """
    for kind in _kinds(graph):
        space, _, name = kind.partition("::")
        known = name in _ALLOWED or name.removesuffix("_") in _ALLOWED  # add_ writes what add returns
        if kind not in _FLOW and not (space == "aten" and known):
            raise UnsupportedOpError(
                kind, instead="It stands in a TorchScript archive, which is not run here."
            )


def _kinds(block: Any) -> Iterator[str]:
    for node in block.nodes():
        yield node.kind()
        for inner in node.blocks():
            yield from _kinds(inner)
