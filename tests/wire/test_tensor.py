"""Tensors as bytes: every dtype, held against Google's library, without copies and without trust."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedplan.errors import TensorEncodingError, WireError
from fedplan.wire import DTYPES, State, WireTensor, read_tensor, schema, write_tensor
from tests.memory import peak
from tests.wire.google import PACKED
from tests.wire.random_messages import record, varint

MB = 2**20
TensorData = PACKED["TensorData"]


def tensor_message(dtype, shape, contents=b"", **fields):
    """A TorchTensor whose contents are these bytes."""
    data = schema.TensorData(shape=schema.Shape(dims=list(shape)), dtype=dtype, **fields)
    setattr(data, DTYPES[dtype].field, contents)
    return schema.TorchTensor.decode(schema.TorchTensor(contents_data=data).encode())


def sent(tensor):
    """The TensorData of a tensor, as the library reads it."""
    return PACKED["TorchTensor"].FromString(write_tensor(tensor, 1).encode()).contents_data


def values_of(array, dtype):
    """Elements as the schema says that they are written."""
    if dtype == "bfloat16":
        return (array.astype("<u4") << 16).view("<f4").ravel()
    return array.astype("<f4").ravel() if dtype == "float16" else array.ravel()


@st.composite
def tensors(draw):
    """A WireTensor of any dtype and shape, with any bits in it."""
    dtype = draw(st.sampled_from(list(DTYPES)))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    storage, size = DTYPES[dtype].storage, int(np.prod(shape))
    if dtype == "bool":
        array = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)), bool)
    else:
        bits = draw(st.binary(min_size=size * storage.itemsize, max_size=size * storage.itemsize))
        array = np.frombuffer(bits, storage)
    return WireTensor(array.reshape(shape), dtype)


@given(tensors())
@settings(max_examples=400)
def test_every_dtype_and_every_bit_comes_back(tensor):
    back = read_tensor(schema.TorchTensor.decode(write_tensor(tensor, 3).encode()))

    assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
    assert back.array.dtype == tensor.array.dtype
    np.testing.assert_array_equal(back.array, tensor.array)  # NaN equals NaN here
    if tensor.dtype in ("float32", "float64", "bfloat16"):
        assert back.array.tobytes() == tensor.array.tobytes()


@given(tensors())
@settings(max_examples=200)
def test_the_library_reads_what_is_written(tensor):
    data = sent(tensor)

    assert data.dtype == tensor.dtype
    assert list(data.shape.dims) == list(tensor.shape)
    contents = list(getattr(data, DTYPES[tensor.dtype].field))
    np.testing.assert_array_equal(contents, values_of(tensor.array, tensor.dtype))


@given(tensors())
@settings(max_examples=200)
def test_what_the_library_writes_is_read(tensor):
    theirs = TensorData(dtype=tensor.dtype)
    theirs.shape.dims.extend(tensor.shape)
    getattr(theirs, DTYPES[tensor.dtype].field).extend(values_of(tensor.array, tensor.dtype).tolist())
    message = PACKED["TorchTensor"](contents_data=theirs)

    back = read_tensor(schema.TorchTensor.decode(message.SerializeToString()))

    # As floats: the library's way through doubles turns signalling NaNs into quiet ones.
    np.testing.assert_array_equal(values_of(back.array, back.dtype), values_of(tensor.array, tensor.dtype))


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("int64", [-(2**63), 2**63 - 1, -1, 0]),
        ("int32", [-(2**31), 2**31 - 1, -1, 0]),
        ("int16", [-(2**15), 2**15 - 1]),
        ("int8", [-128, 127]),
        ("uint8", [0, 127, 128, 255]),
        ("qint8", [-128, -1, 0, 127]),
        ("quint8", [0, 255]),
        ("qint32", [-(2**31), 2**31 - 1]),
        ("bool", [True, False]),
    ],
)
def test_the_extremes_of_integers_are_kept(dtype, values):
    tensor = WireTensor(np.array(values, DTYPES[dtype].storage), dtype)

    assert list(getattr(sent(tensor), DTYPES[dtype].field)) == values
    assert read_tensor(write_tensor(tensor, 1)).array.tolist() == values


@pytest.mark.parametrize("bits", [63, 64])
def test_varints_of_every_length_are_read_and_written(bits):
    values = np.array([(1 << k) - 1 for k in range(bits)], np.uint64).view(np.int64)

    back = read_tensor(write_tensor(WireTensor(values, "int64"), 1))

    np.testing.assert_array_equal(back.array, values)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_special_floats_are_kept(dtype):
    storage = DTYPES[dtype].storage
    tiny, largest = np.finfo(storage).smallest_subnormal, np.finfo(storage).max
    array = np.array([np.nan, np.inf, -np.inf, -0.0, tiny, largest], storage)

    back = read_tensor(write_tensor(WireTensor(array, dtype), 1)).array

    assert back.tobytes() == array.tobytes()


def test_a_float32_beyond_float16_becomes_infinite_without_a_warning():
    contents = np.array([1e30, -1e30, np.nan, 1e-30], "<f4").tobytes()

    back = read_tensor(tensor_message("float16", [4], contents)).array

    np.testing.assert_array_equal(back, np.array([np.inf, -np.inf, np.nan, 0], "<f2"))


@given(st.binary(min_size=4, max_size=64))
def test_any_bits_are_read_as_halves_without_a_warning(data):
    contents = data[: len(data) // 4 * 4]

    read_tensor(tensor_message("float16", [len(contents) // 4], contents))
    read_tensor(tensor_message("bfloat16", [len(contents) // 4], contents))


def test_a_bfloat16_is_the_upper_half_of_a_float32():
    contents = np.array([1.0, -2.5, 3.14159], "<f4").tobytes()

    assert read_tensor(tensor_message("bfloat16", [3], contents)).array.tolist() == [0x3F80, 0xC020, 0x4049]


def test_quantized_tensors_keep_scale_and_zero_point():
    tensor = WireTensor(np.array([-3, 5], "|i1"), "qint8", scale=0.5, zero_point=-7)

    data = sent(tensor)
    back = read_tensor(write_tensor(tensor, 1))

    assert (data.is_quantized, data.scale, data.zero_point) == (True, 0.5, -7)
    assert (back.scale, back.zero_point) == (0.5, -7)


def test_a_true_may_be_any_number_but_zero():
    assert read_tensor(tensor_message("bool", [3], b"\x00\x01\xac\x02")).array.tolist() == [False, True, True]


def test_memory_of_any_layout_is_written_row_by_row():
    array = np.arange(12, dtype="<f4").reshape(3, 4)

    for layout in (array.T, array[::2], array[:, ::-1], np.asfortranarray(array)):
        back = read_tensor(write_tensor(WireTensor(layout, "float32"), 1))
        np.testing.assert_array_equal(back.array, layout)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats_are_views_into_the_received_bytes(dtype):
    array = np.arange(100, dtype=DTYPES[dtype].storage)
    received = State.of([WireTensor(array, dtype)] * 2).serialize()

    for tensor in State.parse(received).tensors:
        assert np.shares_memory(tensor.array, np.frombuffer(received, np.uint8))
        assert not tensor.array.flags.writeable


def test_views_into_a_buffer_that_can_change_are_read_only():
    received = bytearray(State.of([WireTensor(np.zeros(4, "<f4"), "float32")]).serialize())

    assert not State.parse(received).tensors[0].array.flags.writeable


def test_writing_copies_the_values_once_and_reading_never():
    tensor = WireTensor(np.zeros(2 * MB, "<f4"), "float32")
    received = State.of([tensor] * 4).serialize()

    assert peak(lambda: State.of([tensor] * 4).serialize()) < 4 * tensor.nbytes + MB
    assert peak(lambda: State.parse(received).tensors) < MB


@pytest.mark.parametrize("dtype", ["int8", "int64", "bool", "qint32", "float16"])
def test_reading_takes_memory_in_proportion_to_the_message(dtype):
    received = tensor_message(dtype, [MB // 4], bytes(MB if dtype == "float16" else MB // 4))

    assert peak(lambda: read_tensor(received)) < 16 * MB


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([5, 2**29], "needs 2684354560 elements of float32, the contents hold 1"),
        ([2**31 - 1, 2**30], "the contents hold 1"),
        ([2**31 - 1] * 4, "is not one that a tensor can have"),
        ([2**31 - 1] * 64, "is not one that a tensor can have"),
        ([2], r"the shape \[2\] needs 2 elements of float32, the contents hold 1"),
        ([0], "needs 0 elements"),
        ([-1], r"the shape \[-1\] is not one"),
        ([-1, -1], "is not one that a tensor can have"),
        ([1] * 33, "is not one that a tensor can have"),
        ([1] * 400_000, "is not one that a tensor can have"),
    ],
)
def test_a_shape_that_the_contents_do_not_fill_is_refused_at_no_cost(shape, message):
    tensor = tensor_message("float32", shape, b"\0\0\x80?")

    def read():
        with pytest.raises(TensorEncodingError, match=message):
            read_tensor(tensor)

    assert peak(read) < 16 * MB  # the list of the dimensions themselves


def test_a_message_of_a_hundred_bytes_that_claims_ten_gigabytes_is_refused_at_no_cost():
    tensor = record(1, record(1, varint(5) + varint(2**29))) + record(2, b"float32") + record(22, bytes(60))
    claims_shape = record(2, record(1, record(2, tensor)))
    claims_bytes = record(
        2, record(1, record(2, record(2, b"float32") + varint(22 << 3 | 2) + varint(10 * 2**30)))
    )

    def read(data):
        with pytest.raises(WireError):
            _ = State.parse(data).tensors

    assert len(claims_shape) < 100
    assert peak(lambda: read(claims_shape)) < MB // 4
    assert peak(lambda: read(claims_bytes)) < MB // 4


@given(st.lists(st.sampled_from([0, 1, 2**16, 2**31 - 1]), max_size=34), st.sampled_from(list(DTYPES)))
def test_an_absurd_shape_of_no_elements_is_read_or_refused(shape, dtype):
    with contextlib.suppress(TensorEncodingError):
        assert read_tensor(tensor_message(dtype, shape)).array.size == 0


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        pytest.param(
            tensor_message("float32", [1], b"abc"), "3 bytes of contents are no multiple of 4", id="cut float"
        ),
        pytest.param(tensor_message("float16", [1], b"abcde"), "no multiple of 4", id="cut half"),
        pytest.param(tensor_message("float64", [1], b"abcd"), "no multiple of 8", id="cut double"),
        pytest.param(tensor_message("int64", [1], b"\x80"), "end inside a number", id="cut integer"),
        pytest.param(
            tensor_message("int64", [1], b"\xff" * 10 + b"\1"), "longer than ten bytes", id="long integer"
        ),
        pytest.param(tensor_message("int8", [1], varint(128)), "a number outside int8", id="int8"),
        pytest.param(tensor_message("uint8", [1], varint(256)), "a number outside uint8", id="uint8"),
        pytest.param(
            tensor_message("uint8", [1], varint(2**64 - 1)), "a number outside uint8", id="negative uint8"
        ),
        pytest.param(tensor_message("int32", [1], varint(2**31)), "a number outside int32", id="int32"),
        pytest.param(tensor_message("qint8", [1], varint(256)), "a number outside int8", id="qint8"),
        pytest.param(
            schema.TorchTensor(contents_data=schema.TensorData(dtype="complex64")),
            "the dtype 'complex64' is not one of uint8, int8",
            id="unknown dtype",
        ),
        pytest.param(
            schema.TorchTensor(contents_data=schema.TensorData()), "the dtype '' is not", id="no dtype"
        ),
        pytest.param(schema.TorchTensor(), "has no contents", id="no contents"),
        pytest.param(schema.TorchTensor(contents_bin=b"\x80"), "a pickle, which can run code", id="a pickle"),
    ],
)
def test_contents_that_are_not_what_they_claim_are_refused_with_the_reason(tensor, message):
    with pytest.raises(TensorEncodingError, match=message):
        read_tensor(tensor)


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.zeros(2), "float32"),
        (np.zeros(2, ">f4"), "float32"),
        (np.zeros(2), "complex"),
        (np.array(["a"]), "bool"),
    ],
)
def test_an_array_of_another_kind_than_its_dtype_is_not_written(array, dtype):
    with pytest.raises(TensorEncodingError, match=f"cannot be sent with the dtype '{dtype}'"):
        write_tensor(WireTensor(array, dtype), 1)


def test_a_message_without_a_shape_holds_a_single_number():
    data = schema.TensorData(dtype="float32", contents_float32=b"\0\0\x80?")

    assert read_tensor(schema.TorchTensor(contents_data=data)).array.tolist() == 1.0


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(
    ("value", "finite"), [(1.0, True), (np.nan, False), (np.inf, False), (-np.inf, False)]
)
def test_infinite_values_are_found(dtype, value, finite):
    array = np.array([0, value], DTYPES[dtype].storage)

    assert WireTensor(array, dtype).isfinite() == finite


@pytest.mark.parametrize(
    ("bits", "finite"), [(0x3F80, True), (0x7F80, False), (0xFF80, False), (0x7FC0, False)]
)
def test_infinite_values_of_bfloat16_are_found(bits, finite):
    assert WireTensor(np.array([bits], "<u2"), "bfloat16").isfinite() == finite


@pytest.mark.parametrize("dtype", ["int64", "bool", "quint8"])
def test_integers_are_always_finite(dtype):
    assert WireTensor(np.ones(2, DTYPES[dtype].storage), dtype).isfinite()


def test_the_size_of_a_tensor_is_that_of_its_values():
    assert WireTensor(np.zeros((2, 3), "<f8"), "float64").nbytes == 48
