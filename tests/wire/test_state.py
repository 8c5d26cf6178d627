"""States: what is read is written again byte for byte, and what is made can be read by every client."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedplan.errors import TensorEncodingError, WireError
from fedplan.wire import State, WireTensor, schema
from fedplan.wire.state import head_of
from tests.wire.google import PACKED
from tests.wire.random_messages import messages, record

ONE = WireTensor(np.arange(6, dtype="<f4").reshape(2, 3), "float32")
TWO = WireTensor(np.array([7], "<i8"), "int64")


def as_parameter(state, requires_grad):
    """The State with its first tensor sent as a parameter."""
    entry = state.message.tensors[0]
    parameter = schema.Parameter(tensor=entry.torch_tensor, requires_grad=requires_grad)
    state.message.tensors[0] = schema.StateTensor(torch_param=parameter)
    return State.parse(state.serialize())


def test_tensors_come_back_in_order():
    state = State.parse(State.of([ONE, TWO]).serialize())

    assert len(state) == 2
    assert [t.dtype for t in state.tensors] == ["float32", "int64"]
    np.testing.assert_array_equal(state.tensors[0].array, ONE.array)
    assert state.tensors[1].array.tolist() == [7]


def test_ids_tags_and_serializer_are_those_that_clients_expect():
    theirs = PACKED["State"].FromString(State.of([ONE, TWO]).serialize())

    assert [(p.id.id_int, list(p.tags)) for p in theirs.placeholders] == [
        (0, ["#0", "#state-0"]),
        (1, ["#1", "#state-1"]),
    ]
    assert [t.torch_tensor.id.id_int for t in theirs.tensors] == [0, 1]
    assert [t.torch_tensor.id.WhichOneof("id") for t in theirs.tensors] == ["id_int", "id_int"]
    assert {t.torch_tensor.serializer for t in theirs.tensors} == {4}


def test_the_empty_state_has_no_bytes():
    assert State.of([]).serialize() == b""
    assert State.parse(b"").tensors == ()


@pytest.mark.parametrize("requires_grad", [True, False])
def test_parameters_are_read_like_tensors(requires_grad):
    state = as_parameter(State.of([ONE, TWO]), requires_grad)

    assert state.trained == (requires_grad, False)
    np.testing.assert_array_equal(state.tensors[0].array, ONE.array)


def test_a_parameter_stays_a_parameter_when_it_is_written_again():
    data = as_parameter(State.of([ONE]), True).serialize()

    assert State.parse(data).serialize() == data
    assert PACKED["State"].FromString(data).tensors[0].WhichOneof("tensor") == "torch_param"


def test_ids_as_text_and_foreign_tags_are_kept():
    message = State.of([ONE]).message
    message.placeholders[0] = schema.Placeholder(id=schema.Id(id_str="w"), tags=["#x"], description="weights")
    data = message.encode()

    assert State.parse(data).serialize() == data


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (schema.StateTensor(), "tensor 1 of the State: the entry is empty"),
        (schema.StateTensor(torch_param=schema.Parameter()), "tensor 1 of the State: the entry is empty"),
        (schema.StateTensor(torch_tensor=schema.TorchTensor()), "tensor 1 of the State: .* no contents"),
        (
            schema.StateTensor(torch_tensor=schema.TorchTensor(contents_bin=b"x")),
            "tensor 1 of the State: .* a pickle",
        ),
    ],
)
def test_an_error_says_which_tensor_is_wrong(entry, message):
    state = State.of([ONE])
    state.message.tensors.append(entry)

    with pytest.raises(TensorEncodingError, match=message):
        _ = State.parse(state.serialize()).tensors


def read_all(data):
    """Reads a State with all its tensors; nothing but a WireError may come of it."""
    with contextlib.suppress(WireError):
        state = State.parse(data)
        _ = state.trained, state.tensors, [t.isfinite() for t in state.tensors]


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_random_bytes_raise_nothing_but_a_wire_error(data):
    read_all(data)


@given(
    messages(PACKED["TensorData"]),
    st.sampled_from(["float32", "int64", "float16", "bool", "qint8", "bfloat16"]),
)
@settings(max_examples=200)
def test_random_tensors_raise_nothing_but_a_wire_error(tensor, dtype):
    tensor.dtype = dtype

    read_all(record(2, record(1, record(2, tensor.SerializeToString()))))


@given(st.data())
@settings(max_examples=400)
def test_damaged_states_raise_nothing_but_a_wire_error(data):
    damaged = bytearray(State.of([ONE, TWO, WireTensor(np.array([1, -2], "|i1"), "qint8")]).serialize())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))

    read_all(bytes(damaged))


@given(st.integers(0, 200))
def test_a_state_that_was_cut_short_is_never_read_as_whole(length):
    whole = State.of([ONE, TWO]).serialize()
    cut = whole[: min(length, len(whole) - 1)]

    with contextlib.suppress(WireError):
        assert len(State.parse(cut)) < 2


class TestAPartOfAModel:
    def test_says_which_tensors_it_holds(self):
        state = State.parse(State.of([ONE, TWO], (3, 17)).serialize())
        assert state.places == (3, 17)
        assert [t.dtype for t in state.tensors] == ["float32", "int64"]
        assert [t.torch_tensor.id.id_int for t in state.message.tensors] == [3, 17]
        assert [p.tags for p in state.message.placeholders] == [
            ["#3", "#state-3", "#fedplan-param:3"],
            ["#17", "#state-17", "#fedplan-param:17"],
        ]

    def test_is_taken_out_of_the_whole(self):
        whole = State.of([ONE, TWO, ONE])
        assert whole.part((0, 2)).serialize() == State.of([ONE, ONE], (0, 2)).serialize()

    @pytest.mark.parametrize("state", [State.of([ONE, TWO]), State.of([])])
    def test_is_told_from_the_whole(self, state):
        assert State.parse(state.serialize()).places is None

    @pytest.mark.parametrize(
        "tags",
        [
            [["#fedplan-param:0"], []],
            [["#fedplan-param:0"]],
            [["#fedplan-param:0"], ["#fedplan-param:1"], ["#fedplan-param:2"]],
            [["#fedplan-param:0", "#fedplan-param:1"], ["#fedplan-param:2"]],
            [["#fedplan-param:0"], ["#fedplan-param:x"]],
            [["#fedplan-param:0"], ["#fedplan-param:"]],
            [["#fedplan-param:0"], ["#fedplan-param:-1"]],
            [["#fedplan-param:0"], ["#fedplan-param:²"]],
            [["#fedplan-param:0"], ["#fedplan-param:" + "9" * 5000]],
            [["#fedplan-param:1"], ["#fedplan-param:1"]],
            [["#fedplan-param:1"], ["#fedplan-param:0"]],
        ],
    )
    def test_that_does_not_say_it_well_is_refused(self, tags):
        state = State.of([ONE, TWO])
        state.message.placeholders = [schema.Placeholder(tags=some) for some in tags]
        with pytest.raises(WireError, match="holds a part of a model"):
            _ = State.parse(state.serialize()).places


@pytest.mark.parametrize("tensors", [1, 2, 300])
def test_what_stands_before_the_first_tensor_is_known_without_any(tensors):
    assert State.of([ONE] * tensors).serialize().startswith(head_of(tensors) + b"\x12")
