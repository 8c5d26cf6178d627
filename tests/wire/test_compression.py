"""Diffs in fewer bytes: how few, how exact, and what is refused."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fedplan.errors import TensorEncodingError, WireError
from fedplan.wire import State, WireTensor, schema
from fedplan.wire.compression import FORMATS, compress, decompress

SHAPES = [(784, 392), (392,), (392, 10), (10,)]


def diff(seed: int = 0) -> list[WireTensor]:
    random = np.random.default_rng(seed)
    return [WireTensor((random.normal(size=s) * 0.01).astype(np.float32), "float32") for s in SHAPES]


def sent(tensors: list[WireTensor], format: str, **options: float) -> list[WireTensor]:
    """What the grid reads of a compressed diff."""
    state = State.parse(compress(tensors, format, **options).serialize())
    return decompress(state, [t.shape for t in tensors], FORMATS)


@pytest.mark.parametrize(("format", "most"), [("float16", 0.51), ("int8", 0.26), ("topk", 0.03)])
def test_a_diff_takes_fewer_bytes(format: str, most: float) -> None:
    whole = len(State.of(diff()).serialize())
    assert len(compress(diff(), format).serialize()) <= most * whole


def test_halves_keep_three_digits() -> None:
    for ours, theirs in zip(sent(diff(), "float16"), diff(), strict=True):
        np.testing.assert_allclose(ours.array, theirs.array, rtol=1e-3, atol=1e-7)
        assert ours.dtype == "float32"


def test_eight_bits_are_exact_to_half_a_step() -> None:
    for ours, theirs in zip(sent(diff(), "int8"), diff(), strict=True):
        step = np.abs(theirs.array).max() / 63
        assert np.abs(ours.array - theirs.array).max() <= step * 0.5001


def test_the_largest_changes_of_the_whole_diff_arrive_exactly_and_the_others_not_at_all() -> None:
    tensors = diff()
    everything = np.sort(np.abs(np.concatenate([t.array.reshape(-1) for t in tensors])))
    threshold = everything[-round(0.01 * everything.size)]
    for ours, theirs in zip(sent(tensors, "topk", fraction=0.01), tensors, strict=True):
        np.testing.assert_array_equal(
            ours.array, np.where(np.abs(theirs.array) >= threshold, theirs.array, 0)
        )


@pytest.mark.parametrize("format", FORMATS)
def test_other_dtypes_and_empty_tensors_stay_as_they_are(format: str) -> None:
    tensors = [
        WireTensor(np.arange(3, dtype="<i8"), "int64"),
        WireTensor(np.zeros((0, 4), np.float32), "float32"),
        WireTensor(np.array(0.25, np.float32), "float32"),
    ]
    for ours, theirs in zip(sent(tensors, format), tensors, strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        np.testing.assert_allclose(ours.array, theirs.array, rtol=1e-3)


@pytest.mark.parametrize("format", FORMATS)
def test_a_diff_without_a_change_arrives_as_one(format: str) -> None:
    (tensor,) = sent([WireTensor(np.zeros((3, 2), np.float32), "float32")], format)
    assert tensor.array.tolist() == [[0, 0]] * 3


ROUNDING = {"float16": 2**-24 / 2, "int8": 63 * 2**-149 / 2, "topk": 0}
"""By how much the smallest numbers may grow: half of the smallest float16; 63 times half of the smallest
float32, which the step of eight bits is rounded to."""


@given(
    st.sampled_from(FORMATS),
    st.lists(
        arrays(np.float32, array_shapes(max_dims=3, max_side=5), elements=st.floats(-8, 8, width=32)),
        max_size=3,
    ),
)
@example("float16", [np.array([1e-05], np.float32)])
@example("int8", [np.array([6.91e-43], np.float32)])
def test_any_diff_arrives_in_its_shapes_and_no_larger(format: str, values: list[np.ndarray]) -> None:
    tensors = [WireTensor(value, "float32") for value in values]
    for ours, theirs in zip(sent(tensors, format), tensors, strict=True):
        assert ours.shape == theirs.shape
        largest = float(np.abs(theirs.array).max(initial=0))
        assert np.abs(ours.array).max(initial=0) <= max(largest * 1.001, largest + ROUNDING[format])


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_a_diff_that_is_not_finite_stays_so_for_the_grid_to_refuse(format: str, odd: float) -> None:
    healthy = WireTensor(np.ones(3, np.float32), "float32")
    state = compress([healthy, WireTensor(np.array([1, odd], np.float32), "float32")], format)
    assert [tensor.isfinite() for tensor in state.tensors] == [True, False]


def test_of_equal_changes_no_more_are_sent_than_of_others() -> None:
    (tensor,) = sent([WireTensor(np.full((10, 10), 0.01, np.float32), "float32")], "topk", fraction=0.05)
    assert np.count_nonzero(tensor.array) == 5


@pytest.mark.parametrize("format", FORMATS)
def test_a_form_that_the_model_does_not_take_is_refused(format: str) -> None:
    others = [other for other in FORMATS if other != format]
    with pytest.raises(TensorEncodingError, match=f"sent as {format}, which this model does not take"):
        decompress(compress(diff(), format), SHAPES, others)


@pytest.mark.parametrize("format", FORMATS)
def test_a_small_message_cannot_stand_for_a_tensor_that_the_model_does_not_have(format: str) -> None:
    state = compress([WireTensor(np.ones((2, 2), np.float32), "float32")], format)
    with pytest.raises(TensorEncodingError, match=r"tensor 0 .*\[2, 2\], the model's has \[4\]"):
        decompress(state, [(4,)], FORMATS)
    with pytest.raises(TensorEncodingError, match="the model has no such tensor"):
        decompress(state, [], FORMATS)


def top(shape: list[int], values: list[float], distances: bytes) -> State:
    data = schema.TensorData(
        shape=schema.Shape(dims=shape),
        dtype="float32",
        contents_float32=np.array(values, "<f4").tobytes(),
        contents_int32=distances,
    )
    tensor = schema.TorchTensor(contents_data=data, serializer=4, tags=["#topk"])
    return State(schema.State(tensors=[schema.StateTensor(torch_tensor=tensor)]))


@pytest.mark.parametrize(
    "state",
    [
        top([4], [1.0], b"\x04"),
        top([4], [1.0, 2.0], b"\x01"),
        top([4], [1.0, 2.0], b"\x01\x00"),
        top([4], [1.0], b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        top([4], [1.0, 2.0], b"\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        top([4], [1.0], b"\xff"),
    ],
    ids=[
        "beyond the end",
        "fewer places than values",
        "a place twice",
        "before the start",
        "backwards",
        "half a number",
    ],
)
def test_values_without_a_place_are_refused(state: State) -> None:
    with pytest.raises(TensorEncodingError):
        decompress(state, [(4,)], FORMATS)


@given(st.binary(max_size=200))
def test_damaged_halves_are_refused_and_run_no_code(data: bytes) -> None:
    tensor = schema.TorchTensor(contents_bin=data, serializer=schema.SERIALIZER_NUMPY)
    state = State(schema.State(tensors=[schema.StateTensor(torch_tensor=tensor)]))
    with pytest.raises(WireError):
        decompress(state, [(2,)], FORMATS)


def npy(header: str, values: bytes = b"") -> bytes:
    text = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + values


@pytest.mark.parametrize(
    "data",
    [
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", bytes(4)),
        npy("{'descr': '<f2', 'fortran_order': True, 'shape': (1,), }", bytes(2)),
        npy("{'descr': '<f2', 'fortran_order': False, 'shape': (1099511627776,), }"),
        npy("{'descr': '<f2', 'fortran_order': False, 'shape': (True, 2), }", bytes(4)),
        npy("{'descr': '<f2', 'fortran_order': False, 'shape': (1,), }", bytes(3)),
        npy("{'descr': '<f2', 'fortran_order': False, 'shape': (1,), }"),
        npy("(("),
        npy("-" * 9000 + "1"),
        npy("{'descr': '<f2', 'fortran_order': False, 'shape': (" + "9" * 5000 + ",), }"),
        b"PK\x03\x04" + bytes(40),
        b"\x93NUMPY\x02\x00" + bytes(40),
    ],
    ids=[
        "objects", "float32", "columns first", "two terabytes", "a truth value as extent", "a byte too many",
        "nothing", "open brackets", "many signs", "many digits", "an archive", "another version",
    ],
)  # fmt: skip
def test_an_array_that_is_not_of_halves_row_by_row_is_refused(data: bytes) -> None:
    tensor = schema.TorchTensor(contents_bin=data, serializer=schema.SERIALIZER_NUMPY)
    state = State(schema.State(tensors=[schema.StateTensor(torch_tensor=tensor)]))
    with pytest.raises(TensorEncodingError):
        decompress(state, [(1,)], FORMATS)


def test_a_plain_diff_is_read_as_it_is() -> None:
    for ours, theirs in zip(decompress(State.of(diff()), SHAPES, ()), diff(), strict=True):
        np.testing.assert_array_equal(ours.array, theirs.array)


@pytest.mark.parametrize("format", FORMATS)
def test_a_part_of_a_diff_says_which_tensors_it_holds(format: str) -> None:
    whole = State.parse(compress(diff()[2:], format).serialize())
    part = State.parse(compress(diff()[2:], format, places=(2, 3)).serialize())
    assert part.places == (2, 3)
    assert [entry.torch_tensor.id.id_int for entry in part.message.tensors if entry.torch_tensor] == [2, 3]
    for ours, theirs in zip(
        decompress(part, SHAPES[2:], FORMATS), decompress(whole, SHAPES[2:], FORMATS), strict=True
    ):
        np.testing.assert_array_equal(ours.array, theirs.array)


@pytest.mark.parametrize("scale", [3e38, 1e300])
def test_steps_past_the_largest_float_are_not_finite_for_the_grid_to_refuse(scale: float) -> None:
    steps = WireTensor(np.array([-127, 0, 127], np.int8), "qint8", scale=scale)
    (read,) = decompress(State.of([steps]), [(3,)], ["int8"])
    assert not read.isfinite()
