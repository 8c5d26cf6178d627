"""Diffs in fewer bytes: halves, eight bits, or only the largest changes.

A compressed diff is a State like any other, with a tensor for each of the model's. What differs is how a
float32 tensor stands in it:

- ``float16``: the bytes of a ``.npy`` file in `contents_bin`, with the serializer that the schema has for it;
  its own float16 takes four bytes an element.
- ``int8``: the schema's quantized qint8. It is zigzag-coded there, so 64 and more would take two bytes; the
  values are −63 … 63.
- ``topk``: the largest changes of the whole diff, by magnitude: the values in `contents_float32`, and how far
  each is from the one before in `contents_int32`, with the tag ``#topk``. Tensors keep their dense shapes.
"""

import io
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from fedplan.errors import TensorEncodingError
from fedplan.wire import schema
from fedplan.wire.state import Places, State
from fedplan.wire.tensor import DTYPES, Array, WireTensor, read_tensor, write_tensor

FORMATS = ("float16", "int8", "topk")
"""In what a model may take diffs besides float32."""

FORMATS_KEY = "report_formats"
"""Key of the client_config under which the grid tells which of them a model takes."""

TOP_FRACTION = 0.01
"""How many of a diff's elements ``topk`` sends, by default."""

_NPY = b"\x93NUMPY\x01\x00"
"""How the bytes begin that `numpy.save` writes: in version 1.0 of the format."""

_HALVES = re.compile(
    rb"\{'descr': '<f2', 'fortran_order': False, 'shape': \((\d{1,18}(?:, \d{1,18})*,?|)\), \} *\n"
)
"""The header that follows, of halves. NumPy would give it to Python's parser, which strange ones break."""

_STEPS = 63
_HALF_MAX = 65504.0
_TOP_TAG = "#topk"

Shape = tuple[int, ...]


def compress(
    diff: Sequence[WireTensor],
    format: str,
    fraction: float = TOP_FRACTION,
    places: Places = None,
    exact: Collection[int] = (),
) -> State:
    """A diff in a smaller form.

    Tensors of other dtypes than float32 stay as they are, and so does a diff that is not finite: a grid
    refuses it, which a smaller form would hide.

    Args:
        diff: the diff's tensors.
        format: one of `FORMATS`.
        fraction: for ``topk``, the share of elements that is sent.
        places: of a diff that holds a part of the model, which of its tensors they are.
        exact: tensors of the diff, by their numbers in it, that stay as they are.
    """
    state = State.of(diff, places)
    changed = [
        (i, t.array) for i, t in enumerate(diff) if t.dtype == "float32" and t.array.size and i not in exact
    ]
    if not all(bool(np.isfinite(values).all()) for _, values in changed):
        return state
    chosen = (
        _largest([values for _, values in changed], fraction) if format == "topk" else [None] * len(changed)
    )
    for (index, values), kept in zip(changed, chosen, strict=True):
        number = index if places is None else places[index]
        state.message.tensors[index] = schema.StateTensor(torch_tensor=_WRITERS[format](values, number, kept))
    return State(state.message)


def decompress(state: State, shapes: Sequence[Shape], accepted: Collection[str]) -> list[WireTensor]:
    """The tensors of a diff that may be compressed, with the smaller forms as float32.

    Args:
        state: the diff.
        shapes: of the model's tensors; a tensor of a few numbers may stand for no other shape.
        accepted: the formats that the model takes.

    Raises:
        TensorEncodingError: a tensor is damaged, stands for another shape, or is in a form that is not taken.
    """
    tensors = []
    for index, entry in enumerate(state.message.tensors):
        message = entry.torch_param.tensor if entry.torch_param else entry.torch_tensor
        shape = shapes[index] if index < len(shapes) else None
        try:
            tensors.append(_read(message, shape, accepted))
        except TensorEncodingError as error:
            raise TensorEncodingError(f"tensor {index} of the State: {error}") from None
    return tensors


def _read(message: schema.TorchTensor | None, shape: Shape | None, accepted: Collection[str]) -> WireTensor:
    if message is None:
        raise TensorEncodingError("the entry is empty")
    format = _format(message)
    if format is None:
        return read_tensor(message)
    if format not in accepted:
        raise TensorEncodingError(f"it is sent as {format}, which this model does not take; send float32")
    return WireTensor(_READERS[format](message, shape), "float32")


def _format(message: schema.TorchTensor) -> str | None:
    """Which of the formats a tensor is in; None for the usual form."""
    if message.serializer == schema.SERIALIZER_NUMPY and message.contents_bin is not None:
        return "float16"
    if message.contents_data is not None and message.contents_data.dtype == "qint8":
        return "int8"
    return "topk" if _TOP_TAG in message.tags else None


# -- halves --------------------------------------------------------------------------------------------


def _write_half(values: Array, id: int, _: Array | None) -> schema.TorchTensor:
    file = io.BytesIO()
    np.save(file, np.clip(values, -_HALF_MAX, _HALF_MAX).astype("<f2"), allow_pickle=False)
    return schema.TorchTensor(
        id=schema.Id(id_int=id), contents_bin=file.getvalue(), serializer=schema.SERIALIZER_NUMPY
    )


def _read_half(message: schema.TorchTensor, shape: Shape | None) -> Array:
    data = memoryview(message.contents_bin or b"")
    end = len(_NPY) + 2 + int.from_bytes(data[len(_NPY) : len(_NPY) + 2], "little")
    header = _HALVES.fullmatch(data[len(_NPY) + 2 : end])
    if data[: len(_NPY)] != _NPY or header is None:
        raise TensorEncodingError("its bytes are not those of a float16 array, row by row")
    found = tuple(map(int, re.findall(rb"\d+", header[1])))
    _check_shape(found, shape)
    values = data[end:]
    if len(values) != 2 * math.prod(found):
        raise TensorEncodingError(f"{len(values)} bytes are no {list(found)} of float16")
    return np.frombuffer(values, "<f2").reshape(found).astype(np.float32)


# -- eight bits ----------------------------------------------------------------------------------------


def _write_steps(values: Array, id: int, _: Array | None) -> schema.TorchTensor:
    step = float(np.float32(np.abs(values).max() / _STEPS))
    if step == 0:  # nothing changed, or by next to nothing: float32 says it best
        return write_tensor(WireTensor(values, "float32"), id)
    steps = np.clip(np.rint(values / step), -_STEPS, _STEPS).astype(np.int8)
    return write_tensor(WireTensor(steps, "qint8", scale=step), id)


def _read_steps(message: schema.TorchTensor, shape: Shape | None) -> Array:
    tensor = read_tensor(message)
    _check_shape(tensor.shape, shape)
    steps = np.subtract(tensor.array, tensor.zero_point, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # who adds diffs up refuses what is not finite
        return np.asarray(steps * np.float32(tensor.scale), np.float32)


# -- the largest changes -------------------------------------------------------------------------------


def _largest(changes: Sequence[Array], fraction: float) -> list[Array]:
    """For each tensor, the places of those of its elements that belong to the largest of the whole diff."""
    if not changes:
        return []
    everything = np.concatenate([np.abs(values).reshape(-1) for values in changes])
    sent = min(max(1, round(fraction * everything.size)), everything.size)
    chosen = np.sort(np.argpartition(everything, everything.size - sent)[everything.size - sent :])
    ends = np.cumsum([values.size for values in changes])
    parts = np.split(chosen, np.searchsorted(chosen, ends[:-1]))
    return [part - (end - values.size) for part, end, values in zip(parts, ends, changes, strict=True)]


def _write_top(values: Array, id: int, places: Array | None) -> schema.TorchTensor:
    assert places is not None
    flat = np.ascontiguousarray(values).reshape(-1)
    kept = places[flat[places] != 0]
    data = schema.TensorData(
        shape=schema.Shape(dims=list(values.shape)),
        dtype="float32",
        contents_float32=DTYPES["float32"].write(flat[kept]),
        contents_int32=DTYPES["int32"].write(np.diff(kept, prepend=0).astype(DTYPES["int32"].storage)),
    )
    return schema.TorchTensor(
        id=schema.Id(id_int=id), contents_data=data, serializer=schema.SERIALIZER_ALL, tags=[_TOP_TAG]
    )


def _read_top(message: schema.TorchTensor, shape: Shape | None) -> Array:
    data = message.contents_data
    if data is None or data.dtype != "float32":
        raise TensorEncodingError("it holds no float32 values")
    dense = tuple(data.shape.dims) if data.shape else ()
    _check_shape(dense, shape)
    values = DTYPES["float32"].read(data.contents_float32 or b"", DTYPES["float32"].storage)
    distances = DTYPES["int32"].read(data.contents_int32 or b"", DTYPES["int32"].storage)
    places = np.cumsum(distances, dtype=np.int64)
    size = math.prod(dense)
    in_order = not len(places) or (
        distances[0] >= 0 and bool((distances[1:] > 0).all()) and places[-1] < size
    )
    if len(places) != len(values) or not in_order:
        raise TensorEncodingError(f"its {len(values)} values have no places in {size} elements")
    filled = np.zeros(size, np.float32)
    filled[places] = values
    return filled.reshape(dense)


def _check_shape(shape: Shape, expected: Shape | None) -> None:
    """A few bytes may stand for a large tensor here, so its shape is believed only when the model has it."""
    if shape != expected:
        raise TensorEncodingError(
            f"it has the shape {list(shape)[:8]}, the model's has {list(expected or ())[:8]}"
            if expected is not None
            else "the model has no such tensor"
        )


_WRITERS: Mapping[str, Callable[[Array, int, Array | None], schema.TorchTensor]] = {
    "float16": _write_half,
    "int8": _write_steps,
    "topk": _write_top,
}
_READERS: Mapping[str, Callable[[schema.TorchTensor, Shape | None], Any]] = {
    "float16": _read_half,
    "int8": _read_steps,
    "topk": _read_top,
}
