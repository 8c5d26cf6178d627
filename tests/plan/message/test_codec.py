"""Plans as messages: what is written is what is read, and what is damaged is refused."""

import math
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedplan.errors import FedplanError, PlanFormatError, PlanLimitError, UnsupportedOpError, WireError
from fedplan.plan import Plan, PlanInput, PlanInputSpec, PlanOutput, PlanOutputSpec, trace
from fedplan.plan.ir.graph import Arg, Graph
from fedplan.plan.message.codec import _Reader, _write_arg
from fedplan.plan.run.check import Limits
from fedplan.plan.signature import Role
from fedplan.wire import schema
from fedplan.wire.scalars import write_varint


def role(*actions: schema.ComputationAction, inputs: int = 1, outputs: tuple[int, ...] = (9,)) -> bytes:
    return schema.Plan(
        id=schema.Id(id_int=1),
        name="made by hand",
        role=schema.Role(
            actions=list(actions),
            input_placeholder_ids=[schema.Id(id_int=i) for i in range(inputs)],
            output_placeholder_ids=[schema.Id(id_int=o) for o in outputs],
        ),
    ).encode()


def ref(number: int) -> schema.Arg:
    return schema.Arg(arg_placeholder_id=schema.PlaceholderId(id=schema.Id(id_int=number)))


def action(
    command: str, *args: schema.Arg, to: int = 9, target: int | None = None, **kwargs: schema.Arg
) -> schema.ComputationAction:
    return schema.ComputationAction(
        command=command,
        target_placeholder_id=None if target is None else schema.PlaceholderId(id=schema.Id(id_int=target)),
        args=list(args),
        kwargs=kwargs,
        return_placeholder_ids=[schema.PlaceholderId(id=schema.Id(id_int=to))],
    )


def test_serializing_what_was_parsed_gives_the_same_bytes() -> None:
    data = trace(lambda x: x.softmax(1) + 0.1, torch.zeros(4, 3)).serialize()
    assert Plan.parse(data).serialize() == data


def test_names_shapes_dtypes_and_ids_travel() -> None:
    spec = PlanInputSpec(PlanInputSpec.TYPE_CLIENT_CONFIG_PARAM, "lr:rate")
    plan = trace(lambda lr: lr * 2, torch.zeros(1), name="half", inputs=[spec])
    read = Plan.parse(plan.serialize())
    assert (read.name, read.id, read.inputs, read.outputs) == (plan.name, plan.id, plan.inputs, plan.outputs)


@pytest.mark.parametrize("dtype", [None, "float32"])
@pytest.mark.parametrize("shape", [None, (), (None,), (3, None)])
def test_what_a_plan_says_of_an_input_travels(
    dtype: str | None, shape: tuple[int | None, ...] | None
) -> None:
    spec = PlanInputSpec(PlanInputSpec.TYPE_MODEL_PARAM, "w", 0)
    item = PlanInput("x", shape, dtype, spec, Role.TRAINED)
    output = PlanOutput("y", PlanOutputSpec(PlanOutputSpec.TYPE_METRIC, "acc", 0))
    plan = Plan("said", (item,), (output,), Graph((0,), (), (), (0,)))
    read = Plan.parse(plan.serialize())
    assert (read.inputs, read.outputs) == (plan.inputs, plan.outputs)


def test_an_action_of_the_op_table_may_give_arguments_by_name() -> None:
    x, y = torch.ones(3), torch.full((3,), 10.0)
    two = schema.Arg(arg_int=2)
    plan = Plan.parse(role(action("aten.add.Tensor", ref(0), ref(1), alpha=two), inputs=2))
    assert torch.equal(plan(x, y)[0], torch.full((3,), 21.0))
    plan = Plan.parse(role(action("aten.add.Tensor", ref(0), other=ref(1)), inputs=2))
    assert torch.equal(plan(x, y)[0], x + y)


@pytest.mark.parametrize(
    ("positional", "by_name", "message"),
    [
        (2, "scale", "scale are given by name and are none of its further arguments"),
        (2, "other", "other are given by name and are none of its further arguments"),
        (1, "alpha", "other are missing"),
    ],
)
def test_arguments_by_name_that_do_not_fit_are_refused(positional: int, by_name: str, message: str) -> None:
    named = {by_name: schema.Arg(arg_int=2)}
    with pytest.raises(PlanFormatError, match=message):
        Plan.parse(role(action("aten.add.Tensor", *map(ref, range(positional)), **named), inputs=2))


def test_an_unknown_action_with_arguments_by_name_is_refused() -> None:
    with pytest.raises(UnsupportedOpError, match=r"aten\.nothing\.default"):
        Plan.parse(role(action("aten.nothing.default", ref(0), alpha=ref(0))))


numbers = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.sampled_from([0.1, 1e-8, 0.999, 1e300, -0.0, math.inf]),
    st.text(max_size=5),
)


@given(st.recursive(numbers, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=8))
def test_every_argument_arrives_exactly(arg: Arg) -> None:
    message = schema.Arg.decode(_write_arg(arg).encode())
    read = _Reader(schema.Role()).arg(message)
    assert repr(read) == repr(arg)


def test_a_scalar_stays_one_where_pysyft_has_left_its_empty_shape_out() -> None:
    plan = trace(lambda x, step: x * step, torch.ones(2), torch.tensor(1.0))
    message = schema.Plan.decode(plan.serialize())
    assert message.role is not None
    for placeholder in message.role.placeholders:
        if placeholder.expected_shape is not None and not placeholder.expected_shape.dims:
            placeholder.expected_shape = None
    assert plan.inputs[1].shape == Plan.parse(message.encode()).inputs[1].shape == ()


def test_pysyft_may_write_into_an_id_that_exists() -> None:
    plan = Plan.parse(
        role(
            action("__mul__", schema.Arg(arg_int=2), target=0, to=5),
            action("__add__", ref(0), target=5, to=5),
            action("neg", target=5),
        )
    )
    assert plan(torch.ones(2))[0].tolist() == [-3.0, -3.0]


def test_in_place_actions_change_every_name_of_the_tensor_and_no_copy() -> None:
    plan = Plan.parse(
        role(
            action("copy", target=0, to=5),
            action("detach", target=5, to=6),
            action("add_", schema.Arg(arg_int=1), target=6, to=6),
            outputs=(0, 5, 6),
        )
    )
    assert [o.item() for o in plan(torch.zeros(1))] == [0.0, 1.0, 1.0]


NUMBERS = torch.tensor([[1.0, 2.0, 4.0], [-1.0, 0.5, 3.0]])
LABELS = torch.tensor([2, 1])


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((), {}),
        ((False,), {}),
        ((), {"unbiased": False}),
        ((1,), {}),
        ((1, False), {}),
        ((0, False, True), {}),
        ((), {"dim": 1, "keepdim": True}),
    ],
)
@pytest.mark.parametrize("name", ["std", "var"])
def test_deviations_of_pysyft_in_all_their_forms(
    name: str, arguments: tuple[int | bool, ...], options: dict[str, int | bool]
) -> None:
    written = [_write_arg(value) for value in arguments]
    named = {key: _write_arg(value) for key, value in options.items()}
    plan = Plan.parse(role(action(f"torch.{name}", ref(0), *written, **named)))
    expected = getattr(torch, name)(NUMBERS, *arguments, **options)
    torch.testing.assert_close(plan(NUMBERS)[0], expected)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reduction": "sum"},
        {"reduction": "none"},
        {"ignore_index": 1},
        {"size_average": False},
        {"reduce": False},
    ],
)
@pytest.mark.filterwarnings("ignore:size_average and reduce args will be deprecated")
def test_a_likelihood_of_pysyft_in_all_its_forms(options: dict[str, int | str]) -> None:
    named = {key: _write_arg(value) for key, value in options.items()}
    plan = Plan.parse(role(action("torch.nn.functional.nll_loss", ref(0), ref(1), **named), inputs=2))
    scores = NUMBERS.log_softmax(1)
    expected = torch.nn.functional.nll_loss(scores, LABELS, **options)  # type: ignore[arg-type]
    torch.testing.assert_close(plan(scores, LABELS)[0], expected)


def test_dropout_of_pysyft_is_what_it_is_where_it_drops_nothing_and_refused_elsewhere() -> None:
    command, share, off = "torch.nn.functional.dropout", _write_arg(0.3), _write_arg(False)
    still = action(command, ref(0), share, off, to=5)
    plan = Plan.parse(role(still, action("__mul__", schema.Arg(arg_int=2), target=5)))
    assert torch.equal(plan(NUMBERS)[0], NUMBERS * 2)
    with pytest.raises(UnsupportedOpError, match="of which shape"):
        Plan.parse(role(action(command, ref(0), share)))


def test_an_in_place_action_through_a_view_is_refused() -> None:
    with pytest.raises(PlanFormatError, match="of which another is a view"):
        Plan.parse(
            role(
                action("t", target=0, to=5),
                action("add_", schema.Arg(arg_int=1), target=5, to=5),
                outputs=(0,),
            )
        )


@pytest.mark.parametrize(
    ("actions", "error", "message"),
    [
        ([action("aten.mm.default", ref(0), ref(7))], PlanFormatError, "id 7 is read before"),
        ([action("neg", target=8)], PlanFormatError, "id 8 is read before"),
        ([action("os.system", schema.Arg(arg_str="ls"))], UnsupportedOpError, "'os.system'"),
        ([action("torch.load", ref(0))], UnsupportedOpError, "'torch.load'"),
        ([action("aten.rand.default", ref(0))], UnsupportedOpError, "'aten.rand.default'"),
        ([action("__class__", target=0)], UnsupportedOpError, "__class__"),
        ([action("add", schema.Arg(arg_str="x"), target=0)], UnsupportedOpError, "fit none of aten.add"),
        ([action("neg", target=0, to=3)], PlanFormatError, "id 9 is read before"),
    ],
    ids=lambda value: value[0].command if isinstance(value, list) else "",
)
def test_a_list_that_is_not_well_formed_is_refused(
    actions: list[schema.ComputationAction], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Plan.parse(role(*actions))


def test_a_gradient_kernel_that_trusts_its_indices_may_not_stand_alone() -> None:
    """Without the forward operation that checks the targets it would write outside its memory."""
    scalar = schema.Arg(arg_int=1)
    lonely = action(
        "aten.nll_loss_backward.default",
        ref(0),
        ref(1),
        ref(2),
        schema.Arg(),
        scalar,
        schema.Arg(arg_int=-100),
        ref(0),
    )
    with pytest.raises(PlanFormatError, match=r"may only follow the 'aten\.nll_loss_forward\.default'"):
        Plan.parse(role(lonely, inputs=3))


def test_a_message_that_is_no_plan_is_refused() -> None:
    with pytest.raises(WireError):
        Plan.parse(b"\xff" * 20)
    with pytest.raises(PlanFormatError, match="holds no op list"):
        Plan.parse(b"")


def many_operations(count: int, variant: str | None) -> bytes:
    """A Plan message with so many operations, which nobody takes the time to make one by one."""
    one = Plan.parse(trace(lambda x: x + 1, torch.zeros(3)).serialize()).serialize()
    actions = schema.Plan.decode(one).role.actions  # type: ignore[union-attr]
    role = schema.Role(actions=actions).encode() * count
    if variant is None:
        return b"\x12" + write_varint(len(role)) + role
    entry = b"\x0a\x04" + variant.encode() + b"\x12" + write_varint(len(role)) + role
    return one + b"\x52" + write_varint(len(entry)) + entry


@pytest.mark.parametrize("variant", [None, "tfjs"])
def test_a_plan_of_200000_operations_is_refused_in_less_than_a_second(variant: str | None) -> None:
    data = many_operations(200_000, variant)
    start = time.process_time()
    with pytest.raises(PlanLimitError, match="has 200,000 operations; 50,000 are allowed"):
        Plan.parse(data)
    assert time.process_time() - start < 1.0


def test_who_allows_more_operations_reads_a_plan_that_has_them() -> None:
    data = trace(lambda x: x + 1 - 2, torch.zeros(3)).serialize()
    with pytest.raises(PlanLimitError, match="has 2 operations; 1 are allowed"):
        Plan.parse(data, Limits(max_operations=1))
    assert Plan.parse(data, Limits(max_operations=2)).limits.max_operations == 2


@given(st.data())
def test_damaged_messages_raise_named_errors_only(data: st.DataObject) -> None:
    whole = bytearray(DAMAGED)
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        plan = Plan.parse(bytes(whole))
        plan.check([((4, 3), "float32"), ((3,), "float32")])
    except FedplanError:
        pass


DAMAGED = trace(
    lambda x, w: ((x * w).softmax(1).sum(0), x.reshape(x.shape[0] * 3)),
    torch.zeros(4, 3),
    torch.zeros(3).requires_grad_(),
).serialize()
