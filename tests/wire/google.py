"""The messages of syft-proto, made with Google's protobuf library from the facts of its schema.

`fedplan.wire` is held against these classes. `SCHEMA` gives for each message its fields as
`number name type`, with `repeated` or `map` before the type, or the name of a oneof behind it.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

SCHEMA = {
    "Id": ["1 id_int int64 id", "2 id_str string id"],
    "Shape": ["1 dims repeated int32"],
    "Size": ["1 dims repeated int32"],
    "TensorData": [
        "1 shape Size",
        "2 dtype string",
        "3 is_quantized bool",
        "4 scale float",
        "5 zero_point int32",
        "16 contents_uint8 repeated uint32",
        "17 contents_int8 repeated int32",
        "18 contents_int16 repeated int32",
        "19 contents_int32 repeated int32",
        "20 contents_int64 repeated int64",
        "21 contents_float16 repeated float",
        "22 contents_float32 repeated float",
        "23 contents_float64 repeated double",
        "24 contents_bool repeated bool",
        "25 contents_qint8 repeated sint32",
        "26 contents_quint8 repeated uint32",
        "27 contents_qint32 repeated sint32",
        "28 contents_bfloat16 repeated float",
    ],
    "TorchTensor": [
        "1 id Id",
        "2 contents_data TensorData contents",
        "3 contents_bin bytes contents",
        "4 chain TorchTensor",
        "5 grad_chain TorchTensor",
        "6 tags repeated string",
        "7 description string",
        "8 serializer enum",
    ],
    "Parameter": ["1 id Id", "2 tensor TorchTensor", "3 requires_grad bool", "4 grad TorchTensor"],
    "PlaceholderId": ["1 id Id"],
    "Placeholder": [
        "1 child_tensor TorchTensor child",
        "2 child_parameter Parameter child",
        "3 id Id",
        "4 tags repeated string",
        "5 description string",
        "6 expected_shape Shape",
    ],
    "StateTensor": ["1 torch_tensor TorchTensor tensor", "2 torch_param Parameter tensor"],
    "State": ["1 placeholders repeated Placeholder", "2 tensors repeated StateTensor"],
    "PointerTensor": [
        "1 object_id Id",
        "2 location_id Id",
        "3 object_id_at_location Id",
        "4 shape Shape",
        "5 point_to_attr string",
        "6 garbage_collect_data bool",
    ],
    "ArgList": ["1 args repeated Arg"],
    "Arg": [
        "1 arg_bool bool arg",
        "2 arg_int int64 arg",
        "3 arg_float float arg",
        "4 arg_str string arg",
        "5 arg_shape Shape arg",
        "6 arg_tensor TorchTensor arg",
        "7 arg_torch_param Parameter arg",
        "8 arg_pointer_tensor PointerTensor arg",
        "9 arg_placeholder Placeholder arg",
        "10 arg_placeholder_id PlaceholderId arg",
        "11 arg_list ArgList arg",
    ],
    "ComputationAction": [
        "1 command string",
        "2 target_pointer PointerTensor target",
        "3 target_placeholder_id PlaceholderId target",
        "4 target_tensor TorchTensor target",
        "9 target_id Id target",
        "5 args repeated Arg",
        "6 kwargs map Arg",
        "7 return_ids repeated Id",
        "8 return_placeholder_ids repeated PlaceholderId",
    ],
    "Role": [
        "1 id Id",
        "2 actions repeated ComputationAction",
        "3 state State",
        "4 placeholders repeated Placeholder",
        "5 input_placeholder_ids repeated Id",
        "6 output_placeholder_ids repeated Id",
        "7 tags repeated string",
        "8 description string",
    ],
    "InputTypeDescriptor": ["1 type_name string"],
    "TypeList": ["1 nested_types repeated NestedTypeWrapper"],
    "TypeTuple": ["1 nested_types repeated NestedTypeWrapper"],
    "TypeMap": ["1 nested_types map NestedTypeWrapper"],
    "TypeContainer": [
        "1 nested_type InputTypeDescriptor nested",
        "2 nested_type_list TypeList nested",
        "3 nested_type_tuple TypeTuple nested",
        "4 nested_type_dict TypeMap nested",
    ],
    "NestedTypeWrapper": ["1 nested_types TypeContainer"],
    "Plan": [
        "1 id Id",
        "2 role Role",
        "3 include_state bool",
        "4 name string",
        "5 tags repeated string",
        "6 description string",
        "7 torchscript bytes",
        "8 input_types NestedTypeWrapper",
        "9 base_framework string",
        "10 roles map Role",
    ],
    "Protocol": [
        "1 id Id",
        "2 name string",
        "3 roles map Role",
        "4 tags repeated string",
        "5 description string",
    ],
}

NOT_OURS = {"arg_pointer_tensor", "target_pointer"}
"""Fields of the schema that fedplan leaves out, and skips when they come."""

_Field = descriptor_pb2.FieldDescriptorProto


def _classes(*, packed: bool) -> dict[str, type[Message]]:
    """The messages; lists of numbers are written `packed`, or element by element."""
    file = descriptor_pb2.FileDescriptorProto(name="syft.proto", package="syft", syntax="proto3")
    serializer = file.enum_type.add(name="Serializer")
    for number, value in enumerate(("UNSPECIFIED", "TORCH", "NUMPY", "TF", "ALL")):
        serializer.value.add(name=f"SERIALIZER_{value}", number=number)
    for name, lines in SCHEMA.items():
        message = file.message_type.add(name=name)
        for line in lines:
            _add_field(message, line.split(), packed)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"syft.{name}")) for name in SCHEMA
    }


def _add_field(message: descriptor_pb2.DescriptorProto, words: list[str], packed: bool) -> None:
    number, name, *rest = words
    field = message.field.add(number=int(number), name=name)
    repeated = rest[0] in ("repeated", "map")
    field.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    if rest[0] == "map":
        entry_name = name.title().replace("_", "") + "Entry"
        entry = message.nested_type.add(name=entry_name)
        entry.options.map_entry = True
        _add_field(entry, ["1", "key", "string"], packed)
        _add_field(entry, ["2", "value", rest[1]], packed)
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".syft.{message.name}.{entry_name}"
        return
    kind = rest[1] if repeated else rest[0]
    if kind in SCHEMA:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".syft.{kind}"
    elif kind == "enum":
        field.type, field.type_name = _Field.TYPE_ENUM, ".syft.Serializer"
    else:
        field.type = _Field.Type.Value(f"TYPE_{kind.upper()}")
        if repeated and kind != "string":
            field.options.packed = packed
    if not repeated and len(rest) == 2:
        names = [oneof.name for oneof in message.oneof_decl]
        if rest[1] not in names:
            message.oneof_decl.add(name=rest[1])
            names.append(rest[1])
        field.oneof_index = names.index(rest[1])


PACKED = _classes(packed=True)
UNPACKED = _classes(packed=False)

NUMBERS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_ENUM: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
}
"""The least and the greatest value of each integer type."""
