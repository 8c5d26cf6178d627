"""Tensors ↔ bytes, without a framework: shape, dtype name and one NumPy buffer.

A packed ``repeated float`` and a ``bytes`` field look the same on the wire, so float contents are read as
a view into the message and written as one buffer. Integers are varints there; they are read and written
by whole-array operations.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedplan.errors import TensorEncodingError
from fedplan.wire import schema
from fedplan.wire.scalars import Buffer

Array = NDArray[Any]

MAX_RANK = 32
"""Most dimensions that PyTorch and every NumPy handle."""

MAX_NBYTES = 2**63 - 1
"""Most bytes that a shape may stand for; beyond, PyTorch and NumPy refuse it even where an extent is 0."""


@dataclasses.dataclass(frozen=True, slots=True)
class WireTensor:
    """Values of one tensor, as every layer can hold them.

    Attributes:
        array: the values, C-contiguous, maybe read-only. bfloat16 is held as the uint16 of its bits,
            quantized dtypes as their integers.
        dtype: name as on the wire, a key of `DTYPES`: ``"float32"``, ``"bfloat16"``, ``"qint8"`` …
        scale: for quantized dtypes, value = scale · (integer − zero_point).
        zero_point: see `scale`.
    """

    array: Array
    dtype: str
    scale: float = 0.0
    zero_point: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of each dimension; `()` for a single number."""
        return self.array.shape

    @property
    def nbytes(self) -> int:
        """Size of the values in memory, in bytes."""
        return int(self.array.nbytes)

    def isfinite(self) -> bool:
        """True when no value is NaN or infinite; always so for integers."""
        kind = DTYPES[self.dtype]
        if self.dtype == "bfloat16":
            return bool((self.array & 0x7F80 != 0x7F80).all())  # exponent not all ones
        return kind.storage.kind != "f" or bool(np.isfinite(self.array).all())


@dataclasses.dataclass(frozen=True, slots=True)
class DType:
    """One dtype of TensorData: where its contents stand, and how."""

    field: str
    storage: np.dtype[Any]
    read: Callable[[Buffer, np.dtype[Any]], Array]
    write: Callable[[Array], Buffer]
    quantized: bool = False


def _read_raw(data: Buffer, storage: np.dtype[Any]) -> Array:
    if len(data) % storage.itemsize:
        raise TensorEncodingError(f"{len(data)} bytes of contents are no multiple of {storage.itemsize}")
    return np.frombuffer(data, storage)


def _write_raw(values: Array) -> Buffer:
    return values.data.cast("B") if values.size else b""


def _read_half(data: Buffer, storage: np.dtype[Any]) -> Array:
    with np.errstate(over="ignore"):  # a float32 beyond float16 becomes infinite, as everywhere
        return _read_raw(data, np.dtype("<f4")).astype(storage)


def _write_half(values: Array) -> Buffer:
    return _write_raw(values.astype("<f4"))


def _read_bfloat16(data: Buffer, _storage: np.dtype[Any]) -> Array:
    return (_read_raw(data, np.dtype("<u4")) >> 16).astype("<u2")


def _write_bfloat16(bits: Array) -> Buffer:
    return _write_raw(bits.astype("<u4") << 16)


def _varints(data: Buffer) -> NDArray[np.uint64]:
    """All varints of a packed field, as unsigned 64-bit numbers."""
    raw = np.frombuffer(data, np.uint8)
    if raw.size == 0:
        return np.zeros(0, np.uint64)
    (ends,) = np.nonzero(raw < 0x80)
    if ends.size == 0 or ends[-1] != raw.size - 1:
        raise TensorEncodingError("the contents end inside a number")
    if ends.size == raw.size:
        return raw.astype(np.uint64)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > 10:
        raise TensorEncodingError("a number of the contents is longer than ten bytes")
    values = np.zeros(ends.size, np.uint64)
    for k in range(int(lengths.max())):
        longer = lengths > k
        digits = (raw[starts[longer] + k] & 0x7F).astype(np.uint64)
        values[longer] |= digits << np.uint64(7 * k)
    return values


def _to_varints(values: NDArray[np.uint64]) -> bytes:
    """The reverse of `_varints`."""
    if values.size == 0 or int(values.max()) < 0x80:
        return values.astype(np.uint8).tobytes()
    lengths = np.ones(values.size, np.int64)
    for k in range(1, 10):
        lengths += values >= np.uint64(1 << 7 * k)
    ends = np.cumsum(lengths)
    out = np.empty(int(ends[-1]), np.uint8)
    starts = ends - lengths
    for k in range(int(lengths.max())):
        longer = lengths > k
        digits = (values[longer] >> np.uint64(7 * k)) & np.uint64(0x7F)
        out[starts[longer] + k] = digits | np.where(lengths[longer] > k + 1, 0x80, 0).astype(np.uint64)
    return out.tobytes()


def _narrow(values: Array, storage: np.dtype[Any]) -> Array:
    narrowed = values.astype(storage)
    if not np.array_equal(narrowed, values):
        raise TensorEncodingError(f"the contents hold a number outside {storage.name}")
    return narrowed


def _read_int(data: Buffer, storage: np.dtype[Any]) -> Array:
    return _narrow(_varints(data).view(np.int64), storage)


def _write_int(values: Array) -> Buffer:
    return _to_varints(values.astype(np.int64).view(np.uint64))


def _read_zigzag(data: Buffer, storage: np.dtype[Any]) -> Array:
    raw = _varints(data).view(np.int64)
    signed: Array = (raw >> 1) ^ -(raw & 1)
    return _narrow(signed, storage)


def _write_zigzag(values: Array) -> Buffer:
    wide = values.astype(np.int64)
    return _to_varints(((wide << 1) ^ (wide >> 63)).view(np.uint64))


def _read_bool(data: Buffer, storage: np.dtype[Any]) -> Array:
    values: Array = (_varints(data) != 0).astype(storage)
    return values


def _raw(name: str, storage: str) -> DType:
    return DType(f"contents_{name}", np.dtype(storage), _read_raw, _write_raw)


def _int(name: str, storage: str) -> DType:
    return DType(f"contents_{name}", np.dtype(storage), _read_int, _write_int)


DTYPES: dict[str, DType] = {
    "uint8": _int("uint8", "|u1"),
    "int8": _int("int8", "|i1"),
    "int16": _int("int16", "<i2"),
    "int32": _int("int32", "<i4"),
    "int64": _int("int64", "<i8"),
    "float16": DType("contents_float16", np.dtype("<f2"), _read_half, _write_half),
    "float32": _raw("float32", "<f4"),
    "float64": _raw("float64", "<f8"),
    "bool": DType("contents_bool", np.dtype("?"), _read_bool, _write_int),
    "qint8": DType("contents_qint8", np.dtype("|i1"), _read_zigzag, _write_zigzag, quantized=True),
    "quint8": DType("contents_quint8", np.dtype("|u1"), _read_int, _write_int, quantized=True),
    "qint32": DType("contents_qint32", np.dtype("<i4"), _read_zigzag, _write_zigzag, quantized=True),
    "bfloat16": DType("contents_bfloat16", np.dtype("<u2"), _read_bfloat16, _write_bfloat16),
}
"""Every dtype of TensorData, by its name on the wire."""


def read_tensor(tensor: schema.TorchTensor) -> WireTensor:
    """The values of a TorchTensor; float32 and float64 stay views into the message.

    Memory used is bounded by the message's own size: a shape is believed only when the contents hold as
    many elements as it says.

    Raises:
        TensorEncodingError: shape, dtype and contents disagree, or the contents are a pickle.
    """
    data = tensor.contents_data
    if data is None:
        if tensor.contents_bin is not None:
            raise TensorEncodingError(
                "the tensor is sent as contents_bin, a pickle, which can run code; send it as contents_data"
            )
        raise TensorEncodingError("the tensor has no contents")
    kind = DTYPES.get(data.dtype)
    if kind is None:
        raise TensorEncodingError(f"the dtype '{data.dtype}' is not one of {', '.join(DTYPES)}")
    shape = tuple(data.shape.dims) if data.shape else ()
    if not _possible(shape, kind.storage.itemsize):
        raise TensorEncodingError(f"the shape {list(shape)[:8]} is not one that a tensor can have")
    values = kind.read(getattr(data, kind.field) or b"", kind.storage)
    if values.size != math.prod(shape):
        raise TensorEncodingError(
            f"the shape {list(shape)} needs {math.prod(shape)} elements of {data.dtype}, "
            f"the contents hold {values.size}"
        )
    return WireTensor(values.reshape(shape), data.dtype, data.scale, data.zero_point)


def _possible(shape: tuple[int, ...], itemsize: int) -> bool:
    if len(shape) > MAX_RANK or any(extent < 0 for extent in shape):
        return False
    return itemsize * math.prod(extent or 1 for extent in shape) <= MAX_NBYTES


def write_tensor(tensor: WireTensor, id: int) -> schema.TorchTensor:
    """The TorchTensor that holds these values, in the form that every client reads (`contents_data`).

    Args:
        tensor: the values; they are not copied until the message is encoded.
        id: the tensor's id; syft.js needs one.

    Raises:
        TensorEncodingError: the dtype's name is unknown, or the array is not of its storage dtype.
    """
    kind = DTYPES.get(tensor.dtype)
    if kind is None or tensor.array.dtype != kind.storage:
        raise TensorEncodingError(
            f"a {tensor.array.dtype} array cannot be sent with the dtype '{tensor.dtype}'"
        )
    data = schema.TensorData(
        shape=schema.Shape(dims=list(tensor.shape)),
        dtype=tensor.dtype,
        is_quantized=kind.quantized,
        scale=tensor.scale,
        zero_point=tensor.zero_point,
    )
    setattr(data, kind.field, kind.write(np.ascontiguousarray(tensor.array).reshape(-1)))
    return schema.TorchTensor(id=schema.Id(id_int=id), contents_data=data, serializer=schema.SERIALIZER_ALL)
