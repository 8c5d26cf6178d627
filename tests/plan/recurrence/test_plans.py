"""Recurrent layers in Plans: traced, checked, run, unrolled."""

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fedplan.errors import PlanExecutionError, PlanLimitError, TraceError, UnsupportedOpError
from fedplan.plan import OPS, Plan, RepeatedPlan, model_parameters, trace, training_plan
from fedplan.plan.ir.graph import Graph, Node, Ref
from fedplan.plan.recurrence.kernels import KERNELS
from fedplan.plan.recurrence.schema import RECURRENCES
from fedplan.plan.recurrence.substitution import with_fast_recurrences
from fedplan.plan.run.check import Limits, measure
from fedplan.plan.run.interpreter import interpret
from fedplan.plan.variants.torchscript.unrolled import unrolled
from tests.plan.recurrence.cases import KINDS, LAYERS, Case

of_each_kind = pytest.mark.parametrize(("kind", "packed"), list(itertools.product(KINDS, [False, True])))


class Characters(nn.Module):
    """The next character of a text, as LEAF's Shakespeare model finds it."""

    def __init__(self, kind: str = "lstm", **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(9, 3)
        self.recurrent = LAYERS[kind](3, 5, 2, batch_first=True, **options)
        self.out = nn.Linear(5, 9)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.out(self.recurrent(self.embed(text))[0][:, -1])
        return scores


class Lengths(Characters):
    """The same for texts of several lengths: what is said after the last character of each."""

    def forward(self, text: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        packed = pack_padded_sequence(self.embed(text), lengths, batch_first=True)
        y, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True, total_length=text.shape[1])
        last = (lengths - 1).reshape(-1, 1, 1).expand(-1, 1, y.shape[2])
        scores: torch.Tensor = self.out(y.gather(1, last)[:, 0])
        return scores


def texts(rows: int, steps: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(rows)
    return torch.randint(0, 9, (rows, steps), generator=random), torch.randint(
        0, 9, (rows,), generator=random
    )


def ending(rows: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Texts with lengths, the longest first."""
    text, target = texts(rows)
    return [text, torch.linspace(4, 1, rows).round().to(torch.int64)], target


def by_hand(model: nn.Module, inputs: list[torch.Tensor], target: torch.Tensor) -> tuple[float, list[Any]]:
    """The loss of one step of SGD, and the parameters after it."""
    model = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = F.cross_entropy(model(*inputs), target)
    loss.backward()
    optimizer.step()
    return loss.item(), model_parameters(model)


def repeated(plan: Plan, model: nn.Module, data: int) -> RepeatedPlan:
    parameters = [p.detach().clone() for p in model_parameters(model)]
    first = data + 2
    return RepeatedPlan(
        plan,
        [*(None for _ in range(data + 1)), torch.tensor([0.1]), *parameters],
        varying=list(range(data + 1)),
        carried={first + place: 1 + place for place in range(len(parameters))},
        fixed=[first - 1],
    )


class TestTrainingPlans:
    @pytest.mark.some(18)
    @of_each_kind
    def test_a_step_is_one_operation_for_a_layer_and_equals_the_step_by_hand(
        self, kind: str, packed: bool
    ) -> None:
        model = Lengths(kind) if packed else Characters(kind)
        make: Any = ending if packed else texts
        made = training_plan(model, F.cross_entropy, example=make(4))
        names = [node.op for node in made.graph.nodes if node.op.startswith("fedplan.")]
        assert names == [f"fedplan.{kind}.default"] * 2 + [f"fedplan.{kind}_backward.default"] * 2
        plan = Plan.parse(made.serialize())
        for rows in (4, 7, 1):
            inputs, target = make(rows)
            inputs = inputs if packed else [inputs]
            loss, trained = by_hand(model, inputs, target)
            arguments = [*inputs, target, torch.tensor([0.1]), *model_parameters(model)]
            for outputs in (plan(*arguments), repeated(plan, model, len(inputs))([*inputs, target])):
                assert outputs[0].item() == pytest.approx(loss, abs=1e-5)
                for mine, theirs in zip(outputs[1:], trained, strict=True):
                    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)

    def test_a_long_sequence_takes_no_more_operations(self) -> None:
        counts = [
            len(training_plan(Characters(), F.cross_entropy, example=texts(4, steps)).graph.nodes)
            for steps in (2, 80)
        ]
        assert counts[0] == counts[1] <= 60

    def test_the_listing_names_the_layer(self) -> None:
        plan = trace(nn.GRU(3, 5).eval(), torch.randn(4, 2, 3))
        assert "fedplan.gru.default(" in str(plan.graph)

    def test_the_model_is_as_before(self) -> None:
        model, (text, target) = Characters(), texts(4)
        before = model(text)
        training_plan(model, F.cross_entropy, example=(text, target))
        assert torch.equal(copy.deepcopy(model)(text), before)


class TestChecks:
    """Sizes are those of a Plan from the network: nothing is known of them but what they are."""

    def plan(self, kind: str = "gru") -> Graph:
        args = tuple(map(Ref, range(5)))
        recurrence = RECURRENCES[kind]
        results = tuple(range(5, 5 + len(recurrence.results)))
        return Graph(tuple(range(5)), (), (Node(recurrence.operator, args, results),), (results[0],))

    def shapes(self, steps: int, rows: int, units: int) -> list[Any]:
        sizes = [(steps, rows, 3), (rows, units), (3 * units, 3), (3 * units, units), (3 * units,)]
        return [(size, "float32") for size in sizes]

    def test_what_fits_is_measured(self) -> None:
        cost = measure(self.plan(), self.shapes(6, 4, 5)).cost
        assert cost.outputs == (((6, 4, 5), "float32"),)

    def test_shapes_that_do_not_fit_are_refused(self) -> None:
        shapes = self.shapes(6, 4, 5)
        shapes[1] = ((3, 5), "float32")
        with pytest.raises(PlanExecutionError, match=r"is refused: h0 has the shape \(3, 5\) where \(4, 5\)"):
            measure(self.plan(), shapes)

    def test_a_gradient_whose_saved_tensors_are_too_small_is_refused(self) -> None:
        given = Case("gru").backward_arguments()
        tensors = [value for value in given if isinstance(value, torch.Tensor)]
        args = tuple(map(Ref, range(len(tensors))))
        node = Node(RECURRENCES["gru_backward"].operator, args, tuple(range(20, 26)))
        graph = Graph(tuple(range(len(tensors))), (), (node,), (20,))
        shapes: list[Any] = [(tuple(value.shape), "float64") for value in tensors]
        measure(graph, shapes)
        shapes[7] = ((1, 1, 1), "float64")
        with pytest.raises(PlanExecutionError, match="is refused: gates has the shape"):
            measure(graph, shapes)

    def test_a_recurrence_that_would_take_too_much_is_refused(self) -> None:
        with pytest.raises(PlanLimitError, match="max_bytes"):
            measure(self.plan(), self.shapes(10**6, 10**4, 5))
        with pytest.raises(PlanLimitError, match="max_work"):
            measure(self.plan(), self.shapes(10, 10, 50), Limits(max_work=10**7))

    @pytest.mark.parametrize("name", KERNELS)
    def test_no_plan_holds_what_an_executor_calls(self, name: str) -> None:
        assert name not in OPS
        graph = Graph((0,), (), (Node(name, (Ref(0),), (1,)),), (1,))
        with pytest.raises(UnsupportedOpError):
            measure(graph, [((2,), "float32")])


class TestFastFunctionsTakeTheirPlace:
    def measured(self, model: nn.Module, *examples: torch.Tensor) -> tuple[Graph, Any]:
        plan = trace(model, *examples)
        shapes: list[Any] = [(tuple(e.shape), str(e.dtype)[6:]) for e in examples]
        return plan.graph, measure(plan.graph, shapes).values

    def names(self, graph: Graph, values: Any, on_cpu: bool = True) -> list[str]:
        fast = with_fast_recurrences(graph, values, on_cpu)
        return [node.op.split(".")[1] for node in fast.nodes if node.op.startswith("executor.")]

    def test_an_lstm_without_a_gradient(self) -> None:
        graph, values = self.measured(nn.LSTM(3, 5), torch.randn(4, 2, 3))
        assert self.names(graph, values) == ["onednn_lstm"]
        assert self.names(graph, values, on_cpu=False) == ["fast_lstm"]

    def test_an_lstm_with_its_gradient(self) -> None:
        module = nn.LSTM(3, 5)

        def step(x: torch.Tensor) -> Any:
            return torch.autograd.grad(module(x)[0].sum(), list(module.parameters()))

        graph, values = self.measured(step, torch.randn(4, 2, 3))
        assert self.names(graph, values) == ["onednn_lstm", "onednn_lstm_backward"]

    def test_an_lstm_of_doubles_or_with_a_projection_or_lengths(self) -> None:
        def packed(x: torch.Tensor, lengths: torch.Tensor) -> Any:
            y, _ = layer(pack_padded_sequence(x, lengths))
            return pad_packed_sequence(y, total_length=4)[0]

        layer = nn.LSTM(3, 5)
        for model, *examples in (
            (nn.LSTM(3, 5, dtype=torch.float64), torch.randn(4, 2, 3, dtype=torch.float64)),
            (nn.LSTM(3, 5, proj_size=2), torch.randn(4, 2, 3)),
            (packed, torch.randn(4, 2, 3), torch.tensor([4, 2])),
        ):
            assert self.names(*self.measured(model, *examples)) == ["fast_lstm"]

    def test_an_lstm_whose_gates_something_else_reads(self) -> None:
        forward = Node("fedplan.lstm.default", tuple(map(Ref, range(5))), (5, 6, 7, 8, 9))
        shapes: list[Any] = [
            (tuple(value.shape), "float32") for value in Case("lstm").arguments()[:5] if value is not None
        ]
        for more, outputs in (((), (8,)), ((Node("aten.tanh.default", (Ref(9),), (10,)),), (5, 10))):
            graph = Graph(tuple(range(5)), (), (forward, *more), outputs)
            assert self.names(graph, measure(graph, shapes).values) == ["fast_lstm"]

    @pytest.mark.parametrize("place", range(3, 11))
    def test_a_gradient_of_something_else_than_its_lstm(self, place: int) -> None:
        # a Plan from the network may call the gradient with any tensors of the right shapes
        given = Case("lstm", steps=2, rows=2, inputs=2, units=2).backward_arguments()
        shapes: list[Any] = [(tuple(v.shape), "float32") for v in given[:8]]
        inputs = tuple(
            range(9)
        )  # three gradients, x, h0, c0, w_ih, w_hh; and one to take the place of another
        lstm = Node("fedplan.lstm.default", tuple(map(Ref, range(3, 8))), (9, 10, 11, 12, 13))
        right = (*range(8), 9, 12, 13)
        names = RECURRENCES["lstm_backward"].names
        shapes.append((tuple(given[place].shape), "float32"))
        for args, expected in ((right, "onednn"), ((*right[:place], 8, *right[place + 1 :]), "fast")):
            gradient = Node("fedplan.lstm_backward.default", tuple(map(Ref, args)), tuple(range(20, 27)))
            graph = Graph(inputs, (), (lstm, gradient), (9, 20))
            values = measure(graph, shapes).values
            assert self.names(graph, values) == [f"{expected}_lstm", f"{expected}_lstm_backward"], names[
                place
            ]


class TestUnrolled:
    @pytest.mark.some(18)
    @of_each_kind
    def test_a_step_by_step_graph_computes_the_same(self, kind: str, packed: bool) -> None:
        model = Lengths(kind) if packed else Characters(kind)
        make: Any = ending if packed else texts
        plan = training_plan(model, F.cross_entropy, example=make(4))
        flat = unrolled(plan.graph, plan.inputs)
        assert {node.op.split(".")[0] for node in flat.nodes} <= {"aten", "sym"}
        for rows in (4, 3):
            inputs, target = make(rows)
            data = inputs if packed else [inputs]
            arguments = [*data, target, torch.tensor([0.1]), *model_parameters(model)]
            pairs = zip(interpret(flat, arguments), interpret(plan.graph, arguments), strict=True)
            for mine, theirs in pairs:
                torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)

    def test_values_keep_their_numbers(self) -> None:
        plan = trace(nn.GRU(3, 5), torch.randn(4, 2, 3), pin_batch=True)
        flat = unrolled(plan.graph, plan.inputs)
        assert flat.inputs == plan.graph.inputs
        assert flat.outputs == plan.graph.outputs
        x = [torch.randn(4, 2, 3)]
        seen: list[dict[int, Any]] = []
        for graph in (plan.graph, flat):
            values: dict[int, Any] = {}
            interpret(graph, x, lambda node, number, made, kept=values: kept.update({number: made}))
            seen.append(values)
        common = [number for number in seen[0] if isinstance(seen[1].get(number), torch.Tensor)]
        assert len(common) > 3
        for number in common:
            torch.testing.assert_close(seen[0][number], seen[1][number])

    def test_any_number_of_steps_cannot_be_unrolled(self) -> None:
        plan = trace(nn.GRU(3, 5), torch.randn(4, 2, 3))  # the steps are the first dimension
        assert plan(torch.randn(9, 2, 3))[0].shape == (9, 2, 5)
        with pytest.raises(TraceError, match="cannot be unrolled: fix their number"):
            unrolled(plan.graph, plan.inputs)

    def test_a_graph_without_recurrences_is_itself(self) -> None:
        plan = trace(lambda x: x + 1, torch.zeros(2))
        assert unrolled(plan.graph, plan.inputs) is plan.graph
