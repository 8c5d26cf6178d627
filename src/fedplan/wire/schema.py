"""The messages of syft-proto 0.4.9 (package ``syft_proto``) that model-centric federated learning uses.

Names and numbers are the schema's own: https://github.com/OpenMined/syft-proto. What no client of this
protocol sends (pointers, autograd chains, secure-computation tensors) is left out and skipped on reading.
"""

from fedplan.wire.protobuf import Message, field, message
from fedplan.wire.scalars import (
    BOOL,
    BYTES,
    DOUBLE,
    ENUM,
    FIXED32S,
    FIXED64S,
    FLOAT,
    INT32,
    INT64,
    STRING,
    VARINTS,
    Buffer,
)

SERIALIZER_NUMPY = 2
"""Value of `TorchTensor.serializer` that says that `contents_bin` holds a NumPy array."""
SERIALIZER_ALL = 4
"""Value of `TorchTensor.serializer` that says "contents_data, readable by everyone"; syft.js needs it."""


@message
class Id(Message):
    """``types.syft.v1.Id``: an integer or a string."""

    id_int: int | None = field(1, INT64, oneof="id")
    id_str: str | None = field(2, STRING, oneof="id")


@message
class Shape(Message):
    """``types.syft.v1.Shape`` and ``types.torch.v1.Size``: the extent of each dimension."""

    dims: list[int] = field(1, INT32, repeated=True)


@message
class TensorData(Message):
    """``types.torch.v1.TensorData``. Contents are the packed elements as they stand on the wire."""

    shape: Shape | None = field(1, lambda: Shape)
    dtype: str = field(2, STRING)
    is_quantized: bool = field(3, BOOL)
    scale: float = field(4, FLOAT)
    zero_point: int = field(5, INT32)
    contents_uint8: Buffer | None = field(16, VARINTS)
    contents_int8: Buffer | None = field(17, VARINTS)
    contents_int16: Buffer | None = field(18, VARINTS)
    contents_int32: Buffer | None = field(19, VARINTS)
    contents_int64: Buffer | None = field(20, VARINTS)
    contents_float16: Buffer | None = field(21, FIXED32S)
    contents_float32: Buffer | None = field(22, FIXED32S)
    contents_float64: Buffer | None = field(23, FIXED64S)
    contents_bool: Buffer | None = field(24, VARINTS)
    contents_qint8: Buffer | None = field(25, VARINTS)
    contents_quint8: Buffer | None = field(26, VARINTS)
    contents_qint32: Buffer | None = field(27, VARINTS)
    contents_bfloat16: Buffer | None = field(28, FIXED32S)


@message
class TorchTensor(Message):
    """``types.torch.v1.TorchTensor``."""

    id: Id | None = field(1, lambda: Id)
    contents_data: TensorData | None = field(2, lambda: TensorData, oneof="contents")
    contents_bin: bytes | None = field(3, BYTES, oneof="contents")
    chain: "TorchTensor | None" = field(4, lambda: TorchTensor)
    grad_chain: "TorchTensor | None" = field(5, lambda: TorchTensor)
    tags: list[str] = field(6, STRING, repeated=True)
    description: str = field(7, STRING)
    serializer: int = field(8, ENUM)


@message
class Parameter(Message):
    """``types.torch.v1.Parameter``: a tensor that is trained."""

    id: Id | None = field(1, lambda: Id)
    tensor: TorchTensor | None = field(2, lambda: TorchTensor)
    requires_grad: bool = field(3, BOOL)
    grad: TorchTensor | None = field(4, lambda: TorchTensor)


@message
class PlaceholderId(Message):
    """``execution.v1.PlaceholderId``."""

    id: Id | None = field(1, lambda: Id)


@message
class Placeholder(Message):
    """``execution.v1.Placeholder``: a named place for a value of a Plan or a State."""

    child_tensor: TorchTensor | None = field(1, lambda: TorchTensor, oneof="child")
    child_parameter: Parameter | None = field(2, lambda: Parameter, oneof="child")
    id: Id | None = field(3, lambda: Id)
    tags: list[str] = field(4, STRING, repeated=True)
    description: str = field(5, STRING)
    expected_shape: Shape | None = field(6, lambda: Shape)


@message
class StateTensor(Message):
    """``execution.v1.StateTensor``."""

    torch_tensor: TorchTensor | None = field(1, lambda: TorchTensor, oneof="tensor")
    torch_param: Parameter | None = field(2, lambda: Parameter, oneof="tensor")


@message
class State(Message):
    """``execution.v1.State``: an ordered list of tensors; the form of models, diffs and Plan states."""

    placeholders: list[Placeholder] = field(1, lambda: Placeholder, repeated=True)
    tensors: list[StateTensor] = field(2, lambda: StateTensor, repeated=True)


@message
class Metric(Message):
    """A number that was measured on so many samples. An addition of fedplan."""

    name: str = field(1, STRING)
    value: float = field(2, DOUBLE)
    weight: float = field(3, DOUBLE)


@message
class Summary(Message):
    """What a worker tells beside its diff; see `fedplan.wire.Summary`. An addition of fedplan."""

    samples: float | None = field(1, DOUBLE, oneof="samples")
    steps: int | None = field(2, INT64, oneof="steps")
    metrics: list[Metric] = field(3, lambda: Metric, repeated=True)
    evaluation: list[Metric] = field(4, lambda: Metric, repeated=True)


@message
class Report(Message):
    """A State with one field more, which others skip. An addition of fedplan."""

    placeholders: list[Placeholder] = field(1, lambda: Placeholder, repeated=True)
    tensors: list[StateTensor] = field(2, lambda: StateTensor, repeated=True)
    summary: Summary | None = field(100, lambda: Summary)


@message
class ArgList(Message):
    """``types.syft.v1.ArgList``."""

    args: "list[Arg]" = field(1, lambda: Arg, repeated=True)


@message
class Arg(Message):
    """``types.syft.v1.Arg``: one argument of an action. No field set stands for None."""

    arg_bool: bool | None = field(1, BOOL, oneof="arg")
    arg_int: int | None = field(2, INT64, oneof="arg")
    arg_float: float | None = field(3, FLOAT, oneof="arg")
    arg_str: str | None = field(4, STRING, oneof="arg")
    arg_shape: Shape | None = field(5, lambda: Shape, oneof="arg")
    arg_tensor: TorchTensor | None = field(6, lambda: TorchTensor, oneof="arg")
    arg_torch_param: Parameter | None = field(7, lambda: Parameter, oneof="arg")
    arg_placeholder: Placeholder | None = field(9, lambda: Placeholder, oneof="arg")
    arg_placeholder_id: PlaceholderId | None = field(10, lambda: PlaceholderId, oneof="arg")
    arg_list: ArgList | None = field(11, lambda: ArgList, oneof="arg")


@message
class ComputationAction(Message):
    """``execution.v1.ComputationAction``: one operation of a Plan."""

    command: str = field(1, STRING)
    target_placeholder_id: PlaceholderId | None = field(3, lambda: PlaceholderId, oneof="target")
    target_tensor: TorchTensor | None = field(4, lambda: TorchTensor, oneof="target")
    target_id: Id | None = field(9, lambda: Id, oneof="target")
    args: list[Arg] = field(5, lambda: Arg, repeated=True)
    kwargs: dict[str, Arg] = field(6, lambda: Arg, mapped=True)
    return_ids: list[Id] = field(7, lambda: Id, repeated=True)
    return_placeholder_ids: list[PlaceholderId] = field(8, lambda: PlaceholderId, repeated=True)


@message
class Role(Message):
    """``execution.v1.Role``: the actions of a Plan with the tensors that they share."""

    id: Id | None = field(1, lambda: Id)
    actions: list[ComputationAction] = field(2, lambda: ComputationAction, repeated=True)
    state: State | None = field(3, lambda: State)
    placeholders: list[Placeholder] = field(4, lambda: Placeholder, repeated=True)
    input_placeholder_ids: list[Id] = field(5, lambda: Id, repeated=True)
    output_placeholder_ids: list[Id] = field(6, lambda: Id, repeated=True)
    tags: list[str] = field(7, STRING, repeated=True)
    description: str = field(8, STRING)


@message
class InputTypeDescriptor(Message):
    """``execution.v1.InputTypeDescriptor``: the name of an argument's type."""

    type_name: str = field(1, STRING)


@message
class TypeSequence(Message):
    """``NestedTypeWrapper.TypeList`` and ``.TypeTuple``."""

    nested_types: "list[NestedTypeWrapper]" = field(1, lambda: NestedTypeWrapper, repeated=True)


@message
class TypeMap(Message):
    """``NestedTypeWrapper.TypeMap``."""

    nested_types: "dict[str, NestedTypeWrapper]" = field(1, lambda: NestedTypeWrapper, mapped=True)


@message
class TypeContainer(Message):
    """``NestedTypeWrapper.TypeContainer``."""

    nested_type: InputTypeDescriptor | None = field(1, lambda: InputTypeDescriptor, oneof="nested")
    nested_type_list: TypeSequence | None = field(2, lambda: TypeSequence, oneof="nested")
    nested_type_tuple: TypeSequence | None = field(3, lambda: TypeSequence, oneof="nested")
    nested_type_dict: TypeMap | None = field(4, lambda: TypeMap, oneof="nested")


@message
class NestedTypeWrapper(Message):
    """``execution.v1.NestedTypeWrapper``: the nested types of a Plan's arguments."""

    nested_types: TypeContainer | None = field(1, lambda: TypeContainer)


@message
class Plan(Message):
    """``execution.v1.Plan``."""

    id: Id | None = field(1, lambda: Id)
    role: Role | None = field(2, lambda: Role)
    include_state: bool = field(3, BOOL)
    name: str = field(4, STRING)
    tags: list[str] = field(5, STRING, repeated=True)
    description: str = field(6, STRING)
    torchscript: bytes = field(7, BYTES)
    input_types: NestedTypeWrapper | None = field(8, lambda: NestedTypeWrapper)
    base_framework: str = field(9, STRING)
    roles: dict[str, Role] = field(10, lambda: Role, mapped=True)


@message
class Protocol(Message):
    """``execution.v1.Protocol``: roles that several workers play together."""

    id: Id | None = field(1, lambda: Id)
    name: str = field(2, STRING)
    roles: dict[str, Role] = field(3, lambda: Role, mapped=True)
    tags: list[str] = field(4, STRING, repeated=True)
    description: str = field(5, STRING)
