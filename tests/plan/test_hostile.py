"""Plans made to do harm: refused with an error of ours, before a kernel could be fooled.

Plans are checked on shapes alone wherever that shows the refusal: a test that fails then fails, and does not
take the whole run down with it.
"""

import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fedplan.errors import FedplanError, PlanExecutionError, PlanFormatError, PlanInputError, PlanLimitError
from fedplan.plan import OPS, Plan, PlanInput, PlanInputSpec, PlanOutput, model_parameters, training_plan
from fedplan.plan.ir.graph import Arg, Graph, Node, Ref
from fedplan.plan.ops import Argument
from fedplan.plan.run.check import measure
from fedplan.plan.spec import input_from_tags
from fedplan.wire import schema

A, B, C, D = map(Ref, range(4))
"""The inputs, in order."""

Shape = tuple[int, ...]


def parsed(nodes: Sequence[Node], inputs: int, output: int) -> Plan:
    """The Plan of these operations, as it comes from the network."""
    graph = Graph(tuple(range(inputs)), (), tuple(nodes), (output,))
    names = tuple(PlanInput(f"input {i}") for i in range(inputs))
    return Plan.parse(Plan("hostile", names, (PlanOutput("output"),), graph).serialize())


def check(*nodes: Node, shapes: Sequence[Shape], integers: Sequence[int] = ()) -> None:
    """Parses and checks the Plan whose last operation's first result is the output."""
    dtypes = ["int64" if i in integers else "float32" for i in range(len(shapes))]
    plan = parsed(nodes, len(shapes), nodes[-1].results[0])
    plan.check(list(zip(shapes, dtypes, strict=True)))


def full(shape: Shape, to: int, dtype: str = "float32") -> Node:
    return Node("aten.full.default", (shape, 1, dtype), (to,))


class TestKernelsThatTrustTheirCaller:
    """Each of these reads or writes out of bounds when it is called."""

    def test_the_gradient_of_an_average_over_an_empty_picture(self) -> None:
        with pytest.raises(PlanExecutionError, match="is refused"):
            check(
                Node("aten._adaptive_avg_pool2d_backward.default", (A, B), (2,)),
                shapes=[(2, 3, 4, 5), (2, 3, 4, 0)],
            )

    def test_the_gradient_of_a_pool_with_more_pictures_than_the_pool_had(self) -> None:
        pool = ((3, 3), (1, 3), (1, 1), True, True, None)
        with pytest.raises(PlanExecutionError, match="is refused"):
            check(
                Node("aten.avg_pool2d_backward.default", (A, B, *pool), (2,)),
                shapes=[(2, 2, 7, 1), (1, 2, 7, 2)],
            )

    def test_a_pool_with_windows_beside_the_picture(self) -> None:
        # such a window's index points outside of the picture, and its gradient would be written there
        pool = ((1, 2), (2, 3), (0, 1), (2, 5), True)
        with pytest.raises(PlanExecutionError, match="is refused: padding 1 and dilation 5"):
            check(Node("aten.max_pool2d_with_indices.default", (A, *pool), (1, 2)), shapes=[(2, 5, 2)])

    def test_the_gradient_of_an_embedding_scaled_by_frequency(self) -> None:
        with pytest.raises(PlanExecutionError, match="is refused"):
            check(
                Node("aten.embedding_dense_backward.default", (A, B, 4, -1, True), (2,)),
                shapes=[(3, 2), (3,)],
                integers=[1],
            )

    def test_statistics_that_are_one_number_spread_over_all_channels(self) -> None:
        norm = (A, A, None, None, None, Ref(2), Ref(2), True, 1e-5, (True, True, True))
        with pytest.raises(PlanExecutionError, match="does not hold 4 elements side by side"):
            check(
                Node("aten.expand.default", (B, (4,)), (2,)),
                Node("aten.native_batch_norm_backward.default", norm, (3, 4, 5)),
                shapes=[(2, 4), (1,)],
            )

    def test_statistics_that_only_the_meta_device_knows(self) -> None:
        # without training, the kernel returns empty statistics where the meta device foresees four
        forward = Node(
            "aten._native_batch_norm_legit_no_training.default", (A, None, None, B, B, 0.1, 1e-5), (2, 3, 4)
        )
        norm = (A, A, None, None, None, Ref(3), Ref(4), True, 1e-5, (True, True, True))
        backward = Node("aten.native_batch_norm_backward.default", norm, (5, 6, 7))
        with pytest.raises(PlanExecutionError, match="is refused: argument 5"):
            parsed([forward, backward], 2, 5)(torch.ones(2, 4), torch.ones(4))

    def test_a_frozen_batch_norm_has_such_statistics_and_trains(self) -> None:
        model = torch.nn.Sequential(
            torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Flatten(), torch.nn.Linear(8, 3)
        )
        model[1].eval()
        x, y = torch.randn(2, 1, 4, 4), torch.tensor([0, 2])
        plan = training_plan(model, F.cross_entropy, example=(x, y))
        assert any("native_batch_norm_backward" in node.op for node in plan.graph.nodes)
        first, second = (plan(x, y, 0.1, *model_parameters(model)) for _ in range(2))
        assert all(map(torch.equal, first, second))

    @pytest.mark.parametrize("spread", ["the gradient", "the picture"])
    def test_group_norm_of_one_picture_spread_over_the_batch(self, spread: str) -> None:
        # autograd makes tensors contiguous before it calls this kernel, which goes by their shape alone
        sizes = (2, 6, 4, 3)
        picture, row = torch.randn(2, 6, 4), torch.randn(1, 6, 4)
        forward = Node("aten.native_group_norm.default", (A, None, None, *sizes, 1e-5), (2, 3, 4))
        view = Node("aten.expand.default", (B, (2, 6, 4)), (5,))
        pair = (A, Ref(5)) if spread == "the picture" else (Ref(5), A)
        backward = Node(
            "aten.native_group_norm_backward.default",
            (*pair, Ref(3), Ref(4), None, *sizes, (True, False, False)),
            (6, 7, 8),
        )
        (made,) = parsed([forward, view, backward], 2, 6)(picture, row)
        args = [picture, row.expand(2, 6, 4).contiguous()]
        whole = args if spread == "the picture" else args[::-1]
        _, mean, scale = torch.ops.aten.native_group_norm(picture, None, None, *sizes, 1e-5)
        expected = torch.ops.aten.native_group_norm_backward(
            *whole, mean, scale, None, *sizes, [True, False, False]
        )[0]
        torch.testing.assert_close(made, expected)

    def test_a_gradient_whose_forward_operation_nothing_reads(self) -> None:
        # the forward operation would be dropped, and with it the check of the targets
        with pytest.raises(PlanFormatError, match="may only follow"):
            check(
                Node("aten.nll_loss_forward.default", (A, B, None, 1, -100), (3, 4)),
                Node("aten.nll_loss_backward.default", (C, A, B, None, 1, -100, C), (5,)),
                shapes=[(2, 3), (2,), ()],
                integers=[1],
            )

    def test_a_forward_operation_with_too_few_results_vouches_for_nothing(self) -> None:
        with pytest.raises(PlanExecutionError, match="made 2 values instead of 1"):
            check(Node("aten.max_pool2d_with_indices.default", (A, (2, 2)), (1,)), shapes=[(1, 4, 4)])


HUGE = 10**9
PICTURE, KERNEL = (1, 1, 300, 300), (1, 1, 301, 301)


def convolution(padding: int, transposed: bool, to: int) -> Node:
    sizes = ((1, 1), (padding, padding), (1, 1), transposed, (0, 0), 1)
    return Node("aten.convolution.default", (Ref(1), Ref(2), None, *sizes), (to,))


@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param(
            [full(PICTURE, 1), full(KERNEL, 2), convolution(150, False, 3)],
            id="a convolution under a kernel as large as the picture",
        ),
        pytest.param(
            [full((1, 1, 3000, 3000), 1), full((1, 1, 3000, 3000), 2), convolution(2999, True, 3)],
            id="a transposed convolution whose result is one pixel",
        ),
        pytest.param(
            [
                full((600, 1, 1, 20000), 1),
                full((600, 20000, 1), 2),
                Node("aten.matmul.default", (Ref(1), Ref(2)), (3,)),
            ],
            id="products of all pairs of rows",
        ),
        pytest.param(
            [
                full((40000, 1), 1),
                full((40000,), 2),
                Node("aten.mse_loss.default", (Ref(1), Ref(2)), (3,)),
            ],
            id="the mean difference of all pairs",
        ),
        pytest.param(
            [
                full((100_000, 1), 1),
                full((1, 100_000), 2),
                Node("aten.dist.default", (Ref(1), Ref(2)), (3,)),
            ],
            id="the distance of all pairs",
        ),
        pytest.param(
            [
                full((1, 1, 100_000, 1), 1),
                Node("aten._upsample_bilinear2d_aa.default", (Ref(1), (1, 100_000), False), (2,)),
            ],
            id="a picture that is made wide before it is made flat",
        ),
        pytest.param(
            [
                full((30000, 1), 1),
                full((30000,), 2),
                Node("aten.binary_cross_entropy_with_logits.default", (Ref(1), Ref(1), None, Ref(2)), (3,)),
            ],
            id="a loss with more weights than terms",
        ),
        pytest.param(
            [
                full((1, 3000, 3000), 1),
                Node("aten.avg_pool2d.default", (Ref(1), (3000, 3000), (1, 1), (1500, 1500)), (2,)),
            ],
            id="a pool under a window as large as the picture",
        ),
        pytest.param(
            [full((HUGE,), 1, "bool"), Node("aten.sum.default", (Ref(1),), (2,))],
            id="a sum of truth values, which become int64",
        ),
        pytest.param(
            [full((HUGE,), 1, "uint8"), Node("aten.topk.default", (Ref(1), 1), (2, 3))],
            id="the largest of many small numbers",
        ),
        pytest.param(
            [
                full((HUGE,), 1, "bool"),
                full((), 2, "bool"),
                Node("aten.index_put.default", (Ref(1), (Ref(1),), Ref(2)), (3,)),
            ],
            id="a mask, which becomes a list of indices",
        ),
        pytest.param(
            [
                full((2, 2), 1),
                full((10**6, 1), 2, "int64"),
                full((1, 10**6), 3, "int64"),
                full((), 4),
                Node("aten.index_put.default", (Ref(1), (Ref(2), Ref(3)), Ref(4)), (5,)),
            ],
            id="all pairs of indices into four elements",
        ),
    ],
)
def test_what_a_kernel_needs_on_its_way_to_a_small_result_counts(nodes: list[Node]) -> None:
    with pytest.raises(PlanLimitError, match="are allowed"):
        check(*nodes, shapes=[()])


class TestSizes:
    @pytest.mark.parametrize(
        ("op", "operands"),
        [
            ("sym.mul", ("a" * 10, 2**33)),
            ("sym.mul", ((1, 2), 2**33)),
            ("sym.mod", ("%099999999999d", 5)),
            ("sym.add", (A, A)),
            ("aten.sym_size.int", (5, 0)),
        ],
    )
    def test_arithmetic_is_for_numbers(self, op: str, operands: tuple[Arg, ...]) -> None:
        with pytest.raises(PlanExecutionError, match="failed"):
            check(
                Node(op, operands, (1,)),
                Node("aten.add.Tensor", (A, Ref(1)), (2,)),
                shapes=[(3,)],
            )

    def test_a_size_is_no_output(self) -> None:
        with pytest.raises(PlanExecutionError, match="where a tensor is needed"):
            check(Node("aten.sym_size.int", (A, 0), (1,)), shapes=[(3,)])

    def test_shapes_are_short(self) -> None:
        with pytest.raises(PlanExecutionError, match="32 dimensions at most"):
            check(Node("aten.reshape.default", (A, (1,) * 1000), (1,)), shapes=[(1,)])

    def test_shapes_have_no_negative_extents(self) -> None:
        with pytest.raises(PlanExecutionError):
            check(Node("aten.expand.default", (A, (1, -2, 0, 5), True), (1,)), shapes=[(1, 5)])

    def test_a_truth_value_is_no_dimension(self) -> None:
        with pytest.raises(PlanFormatError, match="gives True for the number 'dim'"):
            check(Node("aten.cat.default", ((A, A), True), (1,)), shapes=[(1, 5)])

    def test_an_empty_dimension_is_not_cut_into_billions_of_pieces(self) -> None:
        with pytest.raises(PlanExecutionError, match="would make 2147483647 values instead of 1"):
            check(Node("aten.chunk.default", (A, 2**31 - 1, 1), (1,)), shapes=[(3, 0)])

    def test_a_number_of_pieces_is_no_tensor(self) -> None:
        with pytest.raises(PlanExecutionError, match="failed"):
            check(Node("aten.chunk.default", (A, A), (1,)), shapes=[(3,)])


def a_random_argument(argument: Argument, dice: random.Random) -> Arg:
    """Often of the right kind, seldom a sensible value."""
    kinds: dict[str, Sequence[Arg]] = {
        "List[Optional[Tensor]]": ((A, None), (B,), ()),
        "List[Tensor]": ((A, B), (C,), ()),
        "List": ((), (0,), (1, 2), (-1, 2**62), (3, 3, 3, 3)),
        "Tensor": (A, B, C, D),
        "ScalarType": ("float32", "int8", "bool", "float128"),
        "bool": (True, False),
        "float": (0.5, float("nan"), float("inf")),
        "": (0, 1, -1, 2, 7, 2**31, 2**63 - 1, -(2**63)),
    }
    right = next(values for kind, values in kinds.items() if kind in argument.type)
    return dice.choice(right if dice.random() < 0.9 else (None, True, "a", 1.5, A, (A,), ((1,),)))


@pytest.mark.parametrize("op", OPS)
def test_any_arguments_are_taken_or_refused_with_an_error_of_ours(op: str) -> None:
    dice = random.Random(op)
    inputs = [((2, 3), "float32"), ((), "int64"), ((1, 2, 4, 4), "float64"), ((0,), "bool")]
    for _ in range(25):
        arguments = [argument for argument in OPS[op].arguments if argument.required or dice.random() < 0.8]
        args = tuple(a_random_argument(argument, dice) for argument in arguments)
        results = tuple(range(4, 4 + dice.randint(1, 3)))
        graph = Graph((0, 1, 2, 3), (), (Node(op, args, results),), results)
        try:
            measure(graph, inputs)
        except FedplanError:
            continue


class TestPySyftLists:
    def list_of(self, command: str, operands: int, results: int, length: int = 3) -> bytes:
        ids = [schema.Id(id_int=number) for number in range(10)]
        action = schema.ComputationAction(
            command=command,
            args=[schema.Arg(arg_placeholder_id=schema.PlaceholderId(id=ids[0])) for _ in range(operands)],
            return_placeholder_ids=[schema.PlaceholderId(id=id) for id in ids[1 : 1 + results]],
        )
        shape = schema.Shape(dims=[length])
        role = schema.Role(
            actions=[action],
            placeholders=[schema.Placeholder(id=ids[0], expected_shape=shape)],
            input_placeholder_ids=ids[:1],
            output_placeholder_ids=ids[:1],
        )
        return schema.Plan(id=ids[0], role=role).encode()

    @pytest.mark.parametrize("command", ["__iadd__", "torch.Tensor.mul_", "detach", "copy"])
    @pytest.mark.parametrize("results", [0, 2])
    def test_an_action_returns_what_it_makes(self, command: str, results: int) -> None:
        with pytest.raises(FedplanError):
            Plan.parse(self.list_of(command, 2, results))

    @pytest.mark.parametrize("operands", [1, 3])
    def test_an_index_is_one(self, operands: int) -> None:
        with pytest.raises(FedplanError):
            Plan.parse(self.list_of("__getitem__", operands, 1))

    def test_an_index_as_long_as_the_message_likes_is_refused(self) -> None:
        with pytest.raises(FedplanError, match="__getitem__"):
            Plan.parse(self.list_of("__getitem__", 2, 1, length=2**31 - 1))


def test_an_index_of_more_digits_than_python_reads_is_no_index() -> None:
    spec = input_from_tags([f"#fedplan:modelParam:{'9' * 5000}"])
    assert spec is not None
    assert spec.index is None


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (2**70, "int64"),
        (float("nan"), "int32"),
        (np.zeros(2, np.complex64), None),
        (np.array(["text"]), None),
    ],
)
def test_a_value_of_the_configuration_that_fits_no_tensor_is_named(value: object, dtype: str | None) -> None:
    shape = () if dtype else None
    graph = Graph((0,), (), (Node("aten.neg.default", (A,), (1,)),), (1,))
    plan = Plan("p", (PlanInput("lr", shape, dtype),), (PlanOutput("out"),), graph)
    with pytest.raises(PlanInputError):
        plan(value)


def test_a_plan_for_inputs_of_impossible_shapes_fits_no_model() -> None:
    spec = PlanInputSpec(PlanInputSpec.TYPE_DATA)
    graph = Graph((0,), (), (Node("aten.neg.default", (A,), (1,)),), (1,))
    plan = Plan("p", (PlanInput("x", (-5, 2), "float32", spec),), (PlanOutput("out"),), graph)
    with pytest.raises(PlanInputError, match=r"no tensor has the shape \(-5, 2\)"):
        plan.check_model([])
