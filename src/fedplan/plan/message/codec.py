"""Plans ↔ ``syft_proto.execution.v1.Plan`` messages: the op list, and the other variants as they are.

fedplan writes each operation as an action whose command is the op table's name (``aten.mm.default``) and
whose arguments are all positional. On reading, such commands are taken as they are; any other is taken for
PySyft's and translated by `fedplan.plan.message.pysyft`. PySyft's lists write into ids that exist already;
here each write makes a new value, so a later read finds the latest one.
"""

import dataclasses
import math
import struct
from collections.abc import Mapping

import torch

from fedplan.errors import PlanFormatError, PlanLimitError
from fedplan.plan.dp_sgd import DpSgd
from fedplan.plan.ir.arguments import with_named
from fedplan.plan.ir.builder import Builder
from fedplan.plan.ir.graph import Arg, Graph, Node, Ref
from fedplan.plan.ir.rewrite import prune, renumber
from fedplan.plan.ir.verify import verify
from fedplan.plan.message import pysyft
from fedplan.plan.message.nesting import paths_of, types_of
from fedplan.plan.message.tensors import from_torch, to_torch
from fedplan.plan.ops import DTYPES
from fedplan.plan.signature import PlanInput, PlanOutput, Role
from fedplan.plan.spec import input_from_tags, output_from_tags, to_tags
from fedplan.plan.variants.variants import Variants, of_message
from fedplan.wire import read_tensor, schema, write_tensor
from fedplan.wire.protobuf import count
from fedplan.wire.tensor import WireTensor

_DTYPE_TAG = "#fedplan-dtype:"
_ROLE_TAG = "#fedplan-role:"
_SCALAR_TAG = "#fedplan-scalar"
"""Beside the shape of a scalar, which has no extents: PySyft takes it for none and leaves it out."""

ABSENT = "#fedplan-absent"
"""As an argument: none. The schema says that with an argument without content, which PySyft cannot read."""
_ANY_DTYPE = "any"
_ANY = -1
"""An extent of any size in `expected_shape`."""

_ACTIONS = ((2, 2), (10, 2, 2))
"""Where a `schema.Plan` holds operations: in its role, and in the roles that are for other clients."""

Key = int | str | None
"""What an id is known by."""


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """What a message says of a Plan."""

    name: str
    id: int | str
    inputs: tuple[PlanInput, ...]
    outputs: tuple[PlanOutput, ...]
    graph: Graph
    variants: Variants
    dp: DpSgd | None = None


def encode(parts: Parts) -> bytes:
    """The message of a Plan, as bytes."""
    id, inputs, outputs, graph = parts.id, parts.inputs, parts.outputs, parts.graph
    placeholders = [
        *(_input(i, number, item) for i, (number, item) in enumerate(zip(graph.inputs, inputs, strict=True))),
        *(
            _output(i, number, item)
            for i, (number, item) in enumerate(zip(graph.outputs, outputs, strict=True))
        ),
    ]
    body = schema.Role(
        id=_id(id),
        actions=[_action(node) for node in graph.nodes],
        state=_state(graph),
        placeholders=placeholders,
        input_placeholder_ids=[_id(number) for number in graph.inputs],
        output_placeholder_ids=[_id(number) for number in graph.outputs],
    )
    message = schema.Plan(
        id=_id(id),
        role=body,
        include_state=bool(graph.constants),
        name=parts.name,
        tags=[*parts.variants.tags, *([] if parts.dp is None else [parts.dp.tag])],
        torchscript=parts.variants.torchscript,
        input_types=types_of([item.argument for item in inputs]),
        base_framework="torch",
        roles={} if parts.variants.tfjs is None else {"tfjs": parts.variants.tfjs},
    )
    return message.encode()


def _input(index: int, number: int, item: PlanInput) -> schema.Placeholder:
    tags = [f"#input-{index}"]
    if item.spec is not None:
        tags += to_tags(item.spec)
    if item.dtype is not None or item.shape is not None:
        tags.append(_DTYPE_TAG + (item.dtype or _ANY_DTYPE))
    if item.role is not None:
        tags.append(_ROLE_TAG + item.role)
    if item.shape == ():
        tags.append(_SCALAR_TAG)
    shape, extents = None, item.made_with if item.shape is None else item.shape
    if extents is not None:
        shape = schema.Shape(dims=[_ANY if extent is None else extent for extent in extents])
    return schema.Placeholder(id=_id(number), tags=tags, description=item.name, expected_shape=shape)


def _output(index: int, number: int, item: PlanOutput) -> schema.Placeholder:
    tags = [f"#output-{index}"]
    if item.spec is not None:
        tags += to_tags(item.spec)
    return schema.Placeholder(id=_id(number), tags=tags, description=item.name)


def _state(graph: Graph) -> schema.State:
    return schema.State(
        placeholders=[
            schema.Placeholder(id=_id(number), tags=[f"#state-{index}"])
            for index, (number, _) in enumerate(graph.constants)
        ],
        tensors=[
            schema.StateTensor(torch_tensor=write_tensor(from_torch(value), number))
            for number, value in graph.constants
        ],
    )


def _action(node: Node) -> schema.ComputationAction:
    return schema.ComputationAction(
        command=node.op,
        args=[_write_arg(arg) for arg in node.args],
        return_placeholder_ids=[schema.PlaceholderId(id=_id(number)) for number in node.results],
    )


def _id(value: int | str) -> schema.Id:
    return schema.Id(id_int=value) if isinstance(value, int) else schema.Id(id_str=value)


def _write_arg(arg: Arg) -> schema.Arg:
    if arg is None:
        return schema.Arg()
    if isinstance(arg, Ref):
        return schema.Arg(arg_placeholder_id=schema.PlaceholderId(id=_id(arg.id)))
    if isinstance(arg, tuple):
        return schema.Arg(arg_list=schema.ArgList(args=[_write_arg(item) for item in arg]))
    if isinstance(arg, bool):
        return schema.Arg(arg_bool=arg)
    if isinstance(arg, int):
        return schema.Arg(arg_int=arg)
    if isinstance(arg, str):
        return schema.Arg(arg_str=arg)
    if _is_float32(arg):
        return schema.Arg(arg_float=arg)
    # the schema's float is 32 bits wide; a number that needs more travels as a tensor of one float64
    exact = from_torch(torch.tensor(arg, dtype=torch.float64))
    return schema.Arg(arg_tensor=write_tensor(exact, 0))


def _is_float32(value: float) -> bool:
    if not math.isfinite(value):
        return True
    try:
        return bool(struct.unpack("<f", struct.pack("<f", value))[0] == value)
    except OverflowError:
        return False


def decode(data: bytes, most_operations: int) -> Parts:
    """Reads the list variant of a Plan message.

    Args:
        data: the message.
        most_operations: with more, in any of its lists, it is not read.

    Raises:
        WireError: `data` is not a Plan message, or a tensor in it is damaged.
        PlanLimitError: it has too many operations.
        UnsupportedOpError: an action's command is not in the op table and not one of PySyft's that map to it.
        PlanFormatError: the list is not well formed, or the message holds no list.
    """
    for path in _ACTIONS:  # to read them takes far longer than to count them
        operations = count(data, *path)
        if operations > most_operations:
            raise PlanLimitError(
                f"the Plan has {operations:,} operations; {most_operations:,} are allowed "
                "(Limits.max_operations)"
            )
    message = schema.Plan.decode(data)
    body = message.role
    if body is None or (message.torchscript and not body.actions):
        raise PlanFormatError(
            f"the message of the Plan '{message.name}' holds no op list; ask the grid for the list variant "
            "(receive_operations_as=list)"
        )
    whole = _Reader(body).graph()
    verify(whole)
    graph = renumber(prune(whole))
    tagged = {tag: p for p in body.placeholders for tag in p.tags}
    shown = {key_of(p.id): p.expected_shape for p in body.placeholders}
    paths = paths_of(message.input_types, len(graph.inputs))
    inputs = tuple(
        _read_input(i, tagged, shown.get(key_of(id)), path)
        for i, (id, path) in enumerate(zip(body.input_placeholder_ids, paths, strict=True))
    )
    outputs = tuple(_read_output(i, tagged) for i in range(len(graph.outputs)))
    id, dp = key_of(message.id) or 0, DpSgd.from_tags(message.tags)
    return Parts(message.name, id, inputs, outputs, graph, of_message(message), dp)


def _read_input(
    index: int,
    tagged: Mapping[str, schema.Placeholder],
    shown: schema.Shape | None,
    path: tuple[int, ...] | None,
) -> PlanInput:
    placeholder = tagged.get(f"#input-{index}", schema.Placeholder())
    name = placeholder.description or f"input {index}"
    dtype = next((t.removeprefix(_DTYPE_TAG) for t in placeholder.tags if t.startswith(_DTYPE_TAG)), None)
    role = next((role for role in Role if _ROLE_TAG + role in placeholder.tags), None)
    spec = input_from_tags(placeholder.tags)
    if dtype not in (*DTYPES, _ANY_DTYPE):  # made elsewhere: shapes there are examples, not conditions
        made_with = tuple(shown.dims) if shown is not None and min(shown.dims, default=0) >= 0 else None
        return PlanInput(name, spec=spec, role=role, made_with=made_with, argument=path)
    expected = placeholder.expected_shape
    if expected is None and _SCALAR_TAG in placeholder.tags:
        expected = schema.Shape()
    shape = None if expected is None else tuple(None if e == _ANY else e for e in expected.dims)
    return PlanInput(name, shape, None if dtype == _ANY_DTYPE else dtype, spec, role)


def _read_output(index: int, tagged: Mapping[str, schema.Placeholder]) -> PlanOutput:
    placeholder = tagged.get(f"#output-{index}", schema.Placeholder())
    return PlanOutput(placeholder.description or f"output {index}", output_from_tags(placeholder.tags))


def key_of(id: schema.Id | None) -> Key:
    """An id's number or text; None when there is no id."""
    if id is None:
        return None
    return id.id_int if id.id_int is not None else id.id_str


class _Slot:
    """What an id of the message holds at present."""

    __slots__ = ("value", "viewed")

    def __init__(self, value: Arg) -> None:
        self.value = value
        self.viewed = False
        """Another slot may lie in the same memory."""


class _Reader:
    """Turns the actions of a Plan's body into operations on new values, following what each id holds then."""

    def __init__(self, body: schema.Role) -> None:
        self.body = body
        self.slots: dict[Key, _Slot] = {}
        self.builder = Builder()
        self.actions = pysyft.Actions(self.builder)

    def graph(self) -> Graph:
        inputs = tuple(self.define(id) for id in self.body.input_placeholder_ids)
        state = self.body.state or schema.State()
        for placeholder, tensor in zip(state.placeholders, state.tensors, strict=False):
            content = tensor.torch_param.tensor if tensor.torch_param else tensor.torch_tensor
            self.slots[key_of(placeholder.id)] = _Slot(self.constant(content))
        self.note_lengths()
        for action in self.body.actions:
            self.read(action)
        outputs = tuple(self.output(id) for id in self.body.output_placeholder_ids)
        return self.builder.graph(inputs, outputs)

    def define(self, id: schema.Id) -> int:
        value = self.builder.new()
        self.slots[key_of(id)] = _Slot(Ref(value))
        return value

    def note_lengths(self) -> None:
        for placeholder in self.body.placeholders:
            slot, shape = self.slots.get(key_of(placeholder.id)), placeholder.expected_shape
            if (
                slot is not None
                and isinstance(slot.value, Ref)
                and shape is not None
                and len(shape.dims) == 1
            ):
                self.actions.lengths[slot.value.id] = shape.dims[0]

    def constant(self, tensor: schema.TorchTensor | None) -> Ref:
        if tensor is None:
            raise PlanFormatError("a tensor of the Plan is empty")
        return self.builder.constant(to_torch(read_tensor(tensor)))

    def output(self, id: schema.Id) -> int:
        value = self.slot(id).value
        if not isinstance(value, Ref):
            raise PlanFormatError(f"the output {key_of(id)} is a number, not a tensor")
        return value.id

    def read(self, action: schema.ComputationAction) -> None:
        results = [key_of(r.id) for r in action.return_placeholder_ids] + [
            key_of(r) for r in action.return_ids
        ]
        operands = [self.arg(arg) for arg in action.args]
        kwargs = {name: self.arg(arg) for name, arg in action.kwargs.items()}
        target = self.target(action)
        if action.command.startswith(("aten.", "fedplan.", "sym.")) and target is None:
            args = with_named(action.command, operands, kwargs) if kwargs else operands
            made = self.builder.emit(action.command, args, len(results))
            self.slots.update(zip(results, map(_Slot, made), strict=True))
            return
        if target is not None:
            operands.insert(0, target.value)
        outcome = self.actions.call(action.command, operands, kwargs, len(results))
        if outcome.memory in {pysyft.ResultMemory.ALIAS, pysyft.ResultMemory.WRITTEN} and len(results) != 1:
            raise PlanFormatError(f"the action '{action.command}' returns {len(results)} values, not 1")
        if len(outcome.values) != len(results):
            raise PlanFormatError(f"the action '{action.command}' returns {len(results)} values; it makes 1")
        owner = target or self.first_slot(action)
        self.slots.update(zip(results, self.placed(outcome, owner, action.command), strict=True))

    def placed(self, outcome: pysyft.Outcome, owner: _Slot, command: str) -> list[_Slot]:
        """The slots of an action's results, given whose memory they lie in."""
        if outcome.memory is pysyft.ResultMemory.ALIAS:
            return [owner]
        if outcome.memory is pysyft.ResultMemory.WRITTEN:
            if owner.viewed:
                raise PlanFormatError(
                    f"the action '{command}' writes over a value of which another is a view; a Plan cannot "
                    "say which of them change. Write the result to a new value."
                )
            owner.value = outcome.values[0]
            return [owner]
        slots = [_Slot(value) for value in outcome.values]
        if outcome.memory is pysyft.ResultMemory.VIEW:
            for slot in (owner, *slots):
                slot.viewed = True
        return slots

    def first_slot(self, action: schema.ComputationAction) -> _Slot:
        """The slot of the first argument; a new one when that is no placeholder."""
        first = action.args[0] if action.args else schema.Arg()
        holder = first.arg_placeholder_id or first.arg_placeholder
        return self.slot(holder.id) if holder is not None else _Slot(None)

    def target(self, action: schema.ComputationAction) -> _Slot | None:
        kind = action.which("target")
        if kind is None:
            return None
        if kind == "target_tensor":
            return _Slot(self.constant(action.target_tensor))
        holder = action.target_placeholder_id
        return self.slot(action.target_id if holder is None else holder.id)

    def slot(self, id: schema.Id | None) -> _Slot:
        key = key_of(id)
        if key not in self.slots:
            raise PlanFormatError(f"the id {key} is read before anything is written there")
        return self.slots[key]

    def arg(self, arg: schema.Arg) -> Arg:
        kind = arg.which("arg")
        if kind is None:
            return None
        given = getattr(arg, kind)
        if kind in {"arg_placeholder_id", "arg_placeholder"}:
            return self.slot(given.id).value
        if kind == "arg_list":
            return tuple(self.arg(item) for item in given.args)
        if kind == "arg_shape":
            return tuple(given.dims)
        if kind == "arg_tensor":
            return self.tensor_arg(read_tensor(given), given)
        if kind == "arg_torch_param":
            return self.constant(given.tensor)
        plain: Arg = None if given == ABSENT else given
        return plain

    def tensor_arg(self, values: WireTensor, message: schema.TorchTensor) -> Arg:
        """A float64 of no dimensions is a number that did not fit into arg_float; others are constants."""
        if values.dtype == "float64" and values.shape == ():
            return float(values.array)
        return self.constant(message)
