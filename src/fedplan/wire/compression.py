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
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from fedplan.errors import TensorEncodingError
from fedplan.wire import schema
from fedplan.wire.state import State
from fedplan.wire.tensor import DTYPES, Array, WireTensor, read_tensor, write_tensor

FORMATS = ("float16", "int8", "topk")
"""In what a model may take diffs besides float32."""

FORMATS_KEY = "report_formats"
"""Key of the client_config under which the grid tells which of them a model takes."""

TOP_FRACTION = 0.01
"""How many of a diff's elements ``topk`` sends, by default."""

_STEPS = 63
_HALF_MAX = 65504.0
_TOP_TAG = "#topk"

Shape = tuple[int, ...]


def compress(diff: Sequence[WireTensor], format: str, fraction: float = TOP_FRACTION) -> State:
    """A diff in a smaller form. Tensors of other dtypes than float32 stay as they are.

    Args:
        diff: the diff's tensors.
        format: one of `FORMATS`.
        fraction: for ``topk``, the share of elements that is sent.
    """
    state = State.of(diff)
    threshold = _threshold(diff, fraction) if format == "topk" else 0.0
    for index, tensor in enumerate(diff):
        if tensor.dtype == "float32" and tensor.array.size:
            state.message.tensors[index] = schema.StateTensor(
                torch_tensor=_WRITERS[format](tensor.array, index, threshold)
            )
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


def _write_half(values: Array, id: int, _: float) -> schema.TorchTensor:
    file = io.BytesIO()
    np.save(file, np.clip(values, -_HALF_MAX, _HALF_MAX).astype("<f2"), allow_pickle=False)
    return schema.TorchTensor(
        id=schema.Id(id_int=id), contents_bin=file.getvalue(), serializer=schema.SERIALIZER_NUMPY
    )


def _read_half(message: schema.TorchTensor, shape: Shape | None) -> Array:
    try:
        values = np.load(io.BytesIO(message.contents_bin or b""), allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError) as error:
        raise TensorEncodingError(f"its bytes are not those of an array: {error}") from None
    if not isinstance(values, np.ndarray) or values.dtype != np.float16:
        raise TensorEncodingError("its bytes are not those of a float16 array")
    _check_shape(values.shape, shape)
    return values.astype(np.float32, order="C")


# -- eight bits ----------------------------------------------------------------------------------------


def _write_steps(values: Array, id: int, _: float) -> schema.TorchTensor:
    step = float(np.abs(values).max()) / _STEPS
    if not 0 < step < math.inf:  # nothing changed, or not by a number: float32 says it best
        return write_tensor(WireTensor(values, "float32"), id)
    steps = np.clip(np.rint(values / step), -_STEPS, _STEPS).astype(np.int8)
    return write_tensor(WireTensor(steps, "qint8", scale=step), id)


def _read_steps(message: schema.TorchTensor, shape: Shape | None) -> Array:
    tensor = read_tensor(message)
    _check_shape(tensor.shape, shape)
    values: Array = (tensor.array.astype(np.float32) - tensor.zero_point) * np.float32(tensor.scale)
    return values


# -- the largest changes -------------------------------------------------------------------------------


def _threshold(diff: Sequence[WireTensor], fraction: float) -> float:
    """The magnitude from which on a change belongs to the largest of the whole diff."""
    sizes = [np.abs(tensor.array).reshape(-1) for tensor in diff if tensor.dtype == "float32"]
    everything = np.concatenate(sizes) if sizes else np.zeros(0, np.float32)
    sent = max(1, round(fraction * everything.size))
    if sent >= everything.size:
        return 0.0
    return float(np.partition(everything, everything.size - sent)[everything.size - sent])


def _write_top(values: Array, id: int, threshold: float) -> schema.TorchTensor:
    flat = np.ascontiguousarray(values).reshape(-1)
    (places,) = np.nonzero((np.abs(flat) >= threshold) & (flat != 0))
    distances = np.diff(places, prepend=0).astype(DTYPES["int32"].storage)
    data = schema.TensorData(
        shape=schema.Shape(dims=list(values.shape)),
        dtype="float32",
        contents_float32=DTYPES["float32"].write(flat[places]),
        contents_int32=DTYPES["int32"].write(distances),
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
    if len(places) != len(values) or (len(places) and (distances.min() < 0 or places[-1] >= size)):
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


_WRITERS: Mapping[str, Callable[[Array, int, float], schema.TorchTensor]] = {
    "float16": _write_half,
    "int8": _write_steps,
    "topk": _write_top,
}
_READERS: Mapping[str, Callable[[schema.TorchTensor, Shape | None], Any]] = {
    "float16": _read_half,
    "int8": _read_steps,
    "topk": _read_top,
}
