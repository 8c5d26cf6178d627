"""The wire format, held against Google's library message by message."""

import contextlib

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fedplan.errors import WireError
from fedplan.wire import protobuf, schema
from fedplan.wire.scalars import read_varint, write_varint
from tests.wire.google import NOT_OURS, PACKED, SCHEMA, UNPACKED
from tests.wire.random_messages import assert_same, messages, record, varint

HOSTED = {"State": schema.State, "Plan": schema.Plan, "Protocol": schema.Protocol}
hosted = st.sampled_from(list(HOSTED))


def _ours(name):
    return (
        schema.Shape
        if name == "Size"
        else schema.TypeSequence
        if name in ("TypeList", "TypeTuple")
        else getattr(schema, name)
    )


@pytest.mark.parametrize("name", [name for name in SCHEMA if name != "PointerTensor"])
def test_a_message_has_the_fields_and_numbers_of_the_schema(name):
    ours = {spec.number: field for field, spec in _ours(name)._fields}
    theirs = {field.number: field.name for field in PACKED[name].DESCRIPTOR.fields}

    assert ours == {number: field for number, field in theirs.items() if field not in NOT_OURS}


@given(hosted.flatmap(lambda name: st.tuples(st.just(name), messages(PACKED[name]))))
@settings(max_examples=150)
def test_what_the_library_writes_is_read_the_same_and_written_byte_for_byte(case):
    name, theirs = case
    data = theirs.SerializeToString()

    ours = HOSTED[name].decode(data)

    assert_same(ours, theirs)
    assert ours.encode() == data


@given(messages(PACKED["TensorData"]))
@settings(max_examples=100)
def test_tensor_data_is_read_the_same_and_written_byte_for_byte(theirs):
    data = theirs.SerializeToString()

    assert_same(schema.TensorData.decode(data), theirs)
    assert schema.TensorData.decode(data).encode() == data


@given(messages(UNPACKED["TensorData"]))
@settings(max_examples=100)
def test_numbers_sent_one_by_one_are_read_like_packed_ones(theirs):
    ours = schema.TensorData.decode(theirs.SerializeToString())

    assert_same(ours, theirs)
    assert ours.encode() == PACKED["TensorData"].FromString(theirs.SerializeToString()).SerializeToString()


@given(messages(UNPACKED["State"]))
@settings(max_examples=50)
def test_a_state_sent_number_by_number_is_read(theirs):
    assert_same(schema.State.decode(theirs.SerializeToString()), theirs)


@given(hosted.flatmap(lambda name: st.tuples(st.just(name), *[messages(PACKED[name])] * 2)))
@settings(max_examples=100)
def test_two_messages_in_a_row_merge_as_the_format_says(case):
    name, first, second = case
    data = first.SerializeToString() + second.SerializeToString()

    assert_same(HOSTED[name].decode(data), PACKED[name].FromString(data))


@given(hosted.flatmap(lambda name: st.tuples(st.just(name), messages(PACKED[name], skip=frozenset()))))
@settings(max_examples=100)
def test_fields_that_fedplan_leaves_out_are_skipped(case):
    name, theirs = case

    HOSTED[name].decode(theirs.SerializeToString())  # no error; pointers are not compared


@given(st.integers(100, 2**29 - 1), st.binary(max_size=12), st.integers(0, 2**64 - 1))
def test_unknown_fields_of_every_wire_type_are_skipped(number, body, value):
    unknown = (
        record(number, body)
        + varint(number << 3)
        + varint(value)
        + varint(number << 3 | 5)
        + b"abcd"
        + varint(number << 3 | 1)
        + b"abcdefgh"
    )
    known = schema.Id(id_str="x").encode()

    assert schema.Id.decode(unknown + known + unknown) == schema.Id(id_str="x")


@st.composite
def _damaged(draw):
    name = draw(hosted)
    damaged = bytearray(draw(messages(PACKED[name])).SerializeToString())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(damaged)))
        cut = draw(st.integers(0, 3))
        damaged[at : at + cut] = draw(st.binary(max_size=3))
    return name, bytes(damaged)


@given(_damaged())
@example(("Protocol", b"\x1a\x02\x18\x01"))
@settings(max_examples=150)
def test_a_damaged_message_is_read_as_the_library_reads_it_or_refused(case):
    name, damaged = case
    try:
        ours = HOSTED[name].decode(damaged)
        expected = PACKED[name].FromString(damaged)
    except (WireError, DecodeError):
        return

    assert_same(ours, expected)


def test_packed_contents_may_come_in_pieces():
    data = record(22, b"\0\0\x80?") + record(2, b"float32") + record(22, b"\0\0\0@") + b"\xb5\x01\0\0@@"

    theirs = PACKED["TensorData"].FromString(data)

    assert list(theirs.contents_float32) == [1.0, 2.0, 3.0]
    assert_same(schema.TensorData.decode(data), theirs)


def test_packed_dimensions_may_come_in_pieces():
    assert schema.Shape.decode(b"\x0a\x01\x02\x08\x03\x0a\x02\x04\x05").dims == [2, 3, 4, 5]


def test_of_a_oneof_the_last_one_on_the_wire_counts():
    data = schema.Id(id_int=5).encode() + schema.Id(id_str="x").encode()

    assert schema.Id.decode(data) == schema.Id(id_str="x")
    assert schema.Id.decode(data).which("id") == "id_str"


def test_a_oneof_that_holds_a_default_is_written():
    assert schema.Id(id_int=0).encode() == b"\x08\x00"
    assert schema.Id.decode(b"\x08\x00").id_int == 0
    assert schema.Id().which("id") is None


def test_a_map_entry_without_key_or_value_has_the_defaults():
    plan = schema.Plan.decode(record(10, b"") + record(10, record(1, b"torch")))

    assert plan.roles == {"": schema.Role(), "torch": schema.Role()}


def test_what_is_unknown_in_a_map_entry_is_skipped():
    unknown = varint(3 << 3) + varint(1)

    plan = schema.Plan.decode(record(10, record(1, b"torch") + unknown))

    assert plan.roles == {"torch": schema.Role()}


@given(st.integers(0, 2**64 - 1))
def test_varints_are_written_as_the_format_says(value):
    assert write_varint(value) == varint(value)
    assert read_varint(memoryview(varint(value)), 0) == (value, len(varint(value)))


@pytest.mark.parametrize(
    ("data", "value"),
    [
        pytest.param(b"\x80\x00", 0, id="a zero in two bytes"),
        pytest.param(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 2**64 - 1, id="the greatest"),
        pytest.param(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 2**64 - 1, id="bits beyond 64 are dropped"),
    ],
)
def test_varints_may_be_longer_than_needed(data, value):
    assert read_varint(memoryview(data), 0) == (value, len(data))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"\x80", "ends inside a number", id="key cut short"),
        pytest.param(b"\x08", "ends inside a number", id="value missing"),
        pytest.param(b"\x08" + b"\xff" * 10 + b"\x01", "longer than ten bytes", id="endless number"),
        pytest.param(b"\x12\x05ab", "claims 5 bytes where only 2 are left", id="text cut short"),
        pytest.param(b"\x12\xff\xff\xff\xff\xff\x02ab", "where only 2 are left", id="a length of 96 GB"),
        pytest.param(b"\x15abc", "claims 4 bytes where only 3 are left", id="fixed32 cut short"),
        pytest.param(b"\x11abc", "claims 8 bytes where only 3 are left", id="fixed64 cut short"),
        pytest.param(b"\x00\x00", "number 0", id="field 0"),
        pytest.param(b"\x0b", "wire type 3", id="a group"),
        pytest.param(b"\x0e", "wire type 6", id="no wire type"),
        pytest.param(b"\x0a\x00", "'id_int' has the wire type 2 instead of 0", id="text for a number"),
        pytest.param(b"\x10\x00", "'id_str' has the wire type 0 instead of 2", id="number for a text"),
        pytest.param(b"\x12\x02\xc3\x28", "not UTF-8", id="bad text"),
        pytest.param(varint(2**32 << 3) + b"\0", "number 4294967296", id="a field number beyond 2**29"),
    ],
)
def test_bytes_that_are_no_message_are_refused_with_the_reason(data, message):
    with pytest.raises(WireError, match=message):
        schema.Id.decode(data)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: memoryview(bytearray(data))])
def test_any_kind_of_buffer_is_read(kind):
    assert schema.Id.decode(kind(b"\x12\x01x")).id_str == "x"


def test_nesting_has_a_limit():
    data = b""
    for _ in range(200):
        data = record(4, data)

    with pytest.raises(WireError, match="nested more than 64 deep"):
        schema.TorchTensor.decode(data)


def test_nesting_through_maps_has_a_limit():
    data = b""
    for _ in range(200):
        data = record(1, record(4, record(1, record(2, data))))

    with pytest.raises(WireError, match="nested more than 64 deep"):
        schema.NestedTypeWrapper.decode(data)


def test_half_a_million_empty_messages_are_the_most_that_is_read():
    with pytest.raises(WireError, match="more than 500000 values"):
        schema.State.decode(b"\x12\x00" * 500_001)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (schema.Role, b"\x12\x00" * 1001),
        (schema.Plan, record(10, b"") * 1001),
        (schema.TorchTensor, b"\x32\x00" * 1001),
        (schema.Shape, record(1, b"\x01" * 1001)),
        (schema.Shape, b"\x08\x01" * 1001),
        (schema.TensorData, record(22, b"") * 1001),
        (schema.TensorData, (b"\xb5\x01" + bytes(4)) * 1001),
        (schema.Plan, record(10, record(1, b"x") * 1001)),
        (schema.Plan, record(10, record(2, b"") * 1001)),
        (schema.Role, record(2, b"\x2a\x00" * 300) * 4),
    ],
    ids=[
        "messages",
        "map entries",
        "texts",
        "packed numbers",
        "numbers",
        "pieces of contents",
        "elements of contents",
        "keys of an entry",
        "values of an entry",
        "together",
    ],
)
def test_every_kind_of_value_counts(kind, data, monkeypatch):
    monkeypatch.setattr(protobuf, "MAX_VALUES", 1000)

    with pytest.raises(WireError, match="more than 1000 values"):
        kind.decode(data)


@given(st.binary(max_size=300), hosted)
@settings(max_examples=500)
def test_random_bytes_raise_nothing_but_a_wire_error(data, name):
    with contextlib.suppress(WireError):
        HOSTED[name].decode(data)


def test_fields_are_counted_wherever_the_pieces_of_a_message_stand():
    action = schema.ComputationAction(command="aten.add.Tensor")
    one = schema.Plan(role=schema.Role(actions=[action] * 3), name="p").encode()
    other = schema.Plan(roles={"tfjs": schema.Role(actions=[action] * 2)}).encode()

    assert protobuf.count(one + other + one, 2, 2) == len(schema.Plan.decode(one + one).role.actions) == 6
    assert protobuf.count(one + other, 10, 2, 2) == 2
    assert protobuf.count(one, 3) == 0
    with pytest.raises(WireError):
        protobuf.count(one[:-1], 2, 2)
