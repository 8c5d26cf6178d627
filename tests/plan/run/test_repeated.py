"""A Plan that keeps its parameters: the same training as calling it, to within rounding."""

import dataclasses
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from fedplan.errors import PlanExecutionError, PlanInputError, PlanLimitError
from fedplan.plan import Limits, Plan, RepeatedPlan, model_parameters, trace, training_plan
from fedplan.plan.run.compiler import compile_graph
from fedplan.plan.run.interpreter import interpret
from tests.plan.families import FAMILIES, images, mlp, vectors
from tests.plan.tracing.test_training import optimizer_state, traced

RATE = 0.1


def repeated(plan: Plan, state: list[torch.Tensor]) -> RepeatedPlan:
    """A Plan of `training_plan`, run on copies of these parameters and optimizer tensors."""
    return RepeatedPlan(
        plan,
        [None, None, torch.tensor([RATE]), *(tensor.clone() for tensor in state)],
        varying=[0, 1],
        carried={3 + k: len(plan.outputs) - len(state) + k for k in range(len(state))},
        fixed=[2],
    )


@pytest.mark.some(12)
@pytest.mark.parametrize("name", FAMILIES)
def test_it_trains_as_calling_the_plan_does(name: str) -> None:
    model, plan = traced(name)
    state = [*model_parameters(model), *optimizer_state(plan)]
    before = [tensor.clone() for tensor in state]
    run, expected = repeated(plan, state), state
    for rows in (*FAMILIES[name].sizes, *FAMILIES[name].sizes):
        x, y = FAMILIES[name].batch(rows)
        outputs = run([x, y])
        loss, *expected = plan(x, y, RATE, *expected)
        torch.testing.assert_close(outputs[0], loss, rtol=1e-5, atol=1e-6)
        for ours, theirs in zip(outputs[1:], expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(state, before, strict=True))


@pytest.mark.parametrize(
    "score",
    [
        lambda o, y: F.cross_entropy(1 - 0.5 * o, y),
        lambda o, y: F.cross_entropy(2.0 - 3 * o.sigmoid(), y),
        lambda o, y: ((1 - 0.9 * torch.exp(-F.cross_entropy(o, y, reduction="none"))) ** 2).mean(),
        lambda o, y: F.cross_entropy(1 - o @ torch.eye(o.shape[1]), y),
        lambda o, y: F.cross_entropy(2 ** (0.5 * o), y),
    ],
    ids=["less a product", "of floats", "focal", "less a matrix product", "power"],
)
def test_a_number_in_the_place_of_a_tensor_is_trained_as_the_plan_says(score: Callable[..., Any]) -> None:
    model = torch.nn.Linear(6, 4)
    x, y = torch.randn(8, 6), torch.randint(0, 4, (8,))
    plan = training_plan(model, score, example=(x, y))
    state = model_parameters(model)
    run, expected = repeated(plan, state), state
    for _ in range(2):
        outputs = run([x, y])
        _, *expected = plan(x, y, RATE, *expected)
        for ours, theirs in zip(outputs[1:], expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_parameters_are_updated_where_they_stand() -> None:
    model, plan = traced("MLP")
    run = repeated(plan, model_parameters(model))
    first = run(vectors(4))
    addresses = [tensor.data_ptr() for tensor in first[1:]]
    assert [tensor.data_ptr() for tensor in run(vectors(4))[1:]] == addresses


def test_results_do_not_depend_on_which_run_was_the_first_with_its_shapes() -> None:
    batches = [vectors(4) for _ in range(3)]
    ends = []
    for warm in (False, True):
        torch.manual_seed(0)
        model = mlp()
        plan = training_plan(model, F.cross_entropy, example=vectors(4))
        if warm:
            repeated(plan, model_parameters(model))(batches[0])
        run = repeated(plan, model_parameters(model))
        ends.append([run(batch) for batch in batches][-1])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_a_convolution_with_pools_agrees_on_pictures_of_any_number_of_channels() -> None:
    for channels in (1, 3):
        model = torch.nn.Sequential(
            torch.nn.Conv2d(channels, 4, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Conv2d(4, 6, 3),
            torch.nn.MaxPool2d(2),
            torch.nn.Flatten(),
            torch.nn.Linear(6, 3),
        )
        x, y = images(5)
        x = x.expand(-1, channels, -1, -1).contiguous()
        plan = training_plan(model, F.cross_entropy, example=(x, y))
        expected = model_parameters(model)
        run = repeated(plan, expected)
        for _ in range(3):
            outputs = run([x, y])
            _, *expected = plan(x, y, RATE, *expected)
        for ours, theirs in zip(outputs[1:], expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_large_products_agree_too() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(256, 160), torch.nn.ReLU(), torch.nn.Linear(160, 200))
    x, y = torch.randn(96, 256), torch.randint(0, 200, (96,))
    plan = training_plan(model, F.cross_entropy, example=(x, y))
    expected = model_parameters(model)
    run = repeated(plan, expected)
    for rows in (96, 96, 50, 96):
        outputs = run([x[:rows], y[:rows]])
        _, *expected = plan(x[:rows], y[:rows], RATE, *expected)
    for ours, theirs in zip(outputs[1:], expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("classes", [1, 10, 32, 33])
def test_a_softmax_over_few_classes_agrees_on_few_and_many_rows(classes: int, smoothing: float) -> None:
    model = torch.nn.Linear(5, classes)
    x, y = torch.randn(100, 5), torch.randint(0, classes, (100,))

    def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(output, target, label_smoothing=smoothing)

    plan = training_plan(model, loss, example=(x, y))
    expected = model_parameters(model)
    run = repeated(plan, expected)
    for rows in (63, 64, 100, 3):
        outputs = run([x[:rows], y[:rows]])
        value, *expected = plan(x[:rows], y[:rows], RATE, *expected)
        torch.testing.assert_close(outputs, [value, *expected], rtol=1e-5, atol=1e-6)


Two = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], list[torch.Tensor]]

SHARING: dict[str, Two] = {
    "exchanged": lambda x, a, b: [b, a],
    "one tensor twice": lambda x, a, b: [a + x, a + x],
    "a view of the other": lambda x, a, b: [(c := a * x), c.t()],
    "transposed": lambda x, a, b: [a.t(), b + x],
    "as it was, and updated": lambda x, a, b: [a, a * x],
    "expanded": lambda x, a, b: [x.sum().expand(3, 3), b.sum(0).expand(3, 3)],
    "a constant": lambda x, a, b: [torch.eye(3), a - 0.1 * x],
    "read after it is written": lambda x, a, b: [a - 0.1 * x, b * a.t()],
    "through a view": lambda x, a, b: [a.reshape(9).mul(0.5).reshape(3, 3), b.t().mul(2).t() + a],
}


@pytest.mark.parametrize("name", SHARING)
def test_what_is_carried_never_shares_memory(name: str) -> None:
    plan = trace(SHARING[name], *(torch.randn(3, 3) for _ in range(3)))
    a, b = torch.randn(3, 3), torch.randn(3, 3)
    run = RepeatedPlan(plan, [None, a.clone(), b.clone()], varying=[0], carried={1: 0, 2: 1}, fixed=[])
    for _ in range(4):
        x = torch.randn(3, 3)
        ours = run([x])
        a, b = interpret(plan.graph, [x, a.contiguous(), b.contiguous()])
        torch.testing.assert_close(ours, [a, b], rtol=1e-6, atol=1e-6)
        assert all(tensor.is_contiguous() for tensor in ours)
        assert ours[0].data_ptr() != ours[1].data_ptr()
        assert x.data_ptr() not in {tensor.data_ptr() for tensor in ours}


OVER_A_VIEW: dict[str, Two] = {
    "its tensor is not read again": lambda x, a, b: [(x @ a).t().relu() @ b],
    "its tensor is read later": lambda x, a, b: [(y := x @ a).t().relu() + y],
    "its tensor is returned": lambda x, a, b: [(y := x @ a).t().tanh(), y],
    "another part is read later": lambda x, a, b: [(y := x @ a)[:2].exp().sum(), y[2:].exp()],
    "a part of it": lambda x, a, b: [(x @ a)[:, 1].exp() @ b],
    "it repeats elements": lambda x, a, b: [(x @ a).sum(1, True).expand(3, 3).exp() @ b],
    "it repeats elements behind another view": lambda x, a, b: [
        (x @ a).sum(0).expand(3, 3).reshape(9).exp() @ b.reshape(9)
    ],
    "of an argument": lambda x, a, b: [x.t().exp(), x],
    "of what was given up": lambda x, a, b: [a.t().exp() + x, b + x],
    "twice the same": lambda x, a, b: [(y := (x @ a).t()) + y],
    "two views of one": lambda x, a, b: [(y := x @ a).t() + y],
}


@pytest.mark.parametrize("name", OVER_A_VIEW)
def test_what_is_written_over_through_a_view_is_not_read_again(name: str) -> None:
    plan = trace(OVER_A_VIEW[name], *(torch.randn(3, 3) for _ in range(3)))
    x, a, b = (torch.randn(3, 3) for _ in range(3))
    expected = interpret(plan.graph, [x, a, b])
    kept = x.clone()
    for _ in range(2):
        torch.testing.assert_close(plan(x, a, b), expected, rtol=0, atol=0)
        run = RepeatedPlan(plan, [None, a.clone(), b.clone()], varying=[0], carried={}, fixed=[])
        torch.testing.assert_close(run([x]), expected, rtol=1e-6, atol=1e-6)
        assert torch.equal(x, kept)
    given_up = RepeatedPlan(plan, [None, a.clone(), b.clone()], varying=[0], carried={1: 0}, fixed=[])
    torch.testing.assert_close(given_up([x]), expected, rtol=1e-6, atol=1e-6)


def test_a_run_that_fails_leaves_what_is_carried_as_it_was() -> None:
    def step(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> list[torch.Tensor]:
        new = w - 0.1 * x.t() @ x  # ready before the labels are looked at
        return [F.nll_loss(x, y), new]

    example = (torch.randn(4, 3), torch.tensor([0, 1, 2, 0]), torch.randn(3, 3))
    plan = trace(step, *example)
    w = torch.randn(3, 3)
    run = RepeatedPlan(plan, [None, None, w], varying=[0, 1], carried={2: 1}, fixed=[])
    kept = run(example[:2])[1].clone()
    with pytest.raises(PlanExecutionError):
        run([example[0], torch.tensor([0, 1, 9, 0])])
    again = run(example[:2])[1]
    x = example[0]
    torch.testing.assert_close(again, kept - 0.1 * x.t() @ x)


def test_nothing_runs_that_was_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    model, whole = traced("MLP")
    plan = dataclasses.replace(whole, limits=Limits(max_work=100_000))
    made = []
    monkeypatch.setattr("fedplan.plan.plan.compile_graph", lambda *a: made.append(a) or compile_graph(*a))
    run = repeated(plan, model_parameters(model))
    run(vectors(4))
    for rows in (4000, 4000):
        with pytest.raises(PlanLimitError):
            run(vectors(rows))
    with pytest.raises(PlanInputError):
        run([torch.randn(4, 7), vectors(4)[1]])
    with pytest.raises(PlanInputError):
        run([torch.randn(4, 6).double(), vectors(4)[1]])
    assert len(made) == 1


def test_a_parameter_that_comes_back_as_something_else_is_checked_each_time() -> None:
    plan = trace(lambda x, w: [torch.cat([w, x])], torch.randn(2, 3), torch.randn(2, 3))
    free = dataclasses.replace(
        plan,
        inputs=tuple(dataclasses.replace(i, shape=None) for i in plan.inputs),
        limits=Limits(max_bytes=600),
    )
    run = RepeatedPlan(free, [None, torch.zeros(2, 3)], varying=[0], carried={1: 0}, fixed=[])
    x = torch.randn(2, 3)
    assert [len(run([x])[0]) for _ in range(3)] == [4, 6, 8]
    for _ in range(8):
        run([x])
    with pytest.raises(PlanLimitError):
        run([x])


def test_arrays_gradients_and_strides_of_arguments_are_taken_as_a_call_takes_them() -> None:
    model, plan = traced("MLP")
    run = repeated(plan, model_parameters(model))
    x, y = vectors(4)
    expected = run([x, y])[0].clone()
    for form in (x.numpy(), x.clone().requires_grad_(), x.t().contiguous().t()):
        again = repeated(plan, model_parameters(model))([form, y])[0]
        assert torch.equal(again, expected)
        assert not again.requires_grad


def test_a_rate_that_is_not_fixed_may_change() -> None:
    model, plan = traced("MLP")
    parameters = model_parameters(model)
    run = RepeatedPlan(
        plan,
        [None, None, None, *(p.clone() for p in parameters)],
        varying=[0, 1, 2],
        carried={3 + k: 1 + k for k in range(4)},
        fixed=[],
    )
    x, y = vectors(4)
    for rate in (0.1, 0.0, 2.0):
        outputs = run([x, y, torch.tensor([rate])])
        _, *parameters = plan(x, y, rate, *parameters)
        for ours, theirs in zip(outputs[1:], parameters, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_executors_are_kept_for_as_many_shapes_as_clients_last_batches_may_have() -> None:
    _, plan = traced("MLP")
    plan = dataclasses.replace(plan)  # one that has run nothing yet
    seen: list[object] = []
    for rows in (*range(1, 65), *range(1, 65)):
        tensors = plan.arguments([*vectors(rows), RATE, *model_parameters(mlp())])
        seen.append(plan.executor(tensors))
        if seen[-1] is None:
            plan.first_run(tensors)
    assert seen[:64] == [None] * 64
    assert None not in seen[64:]


def test_of_many_shapes_those_are_forgotten_that_ran_longest_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedplan.plan.plan._EXECUTORS", (3, 3))
    _, plan = traced("MLP")
    plan = dataclasses.replace(plan)

    def known(rows: int) -> bool:
        tensors = plan.arguments([*vectors(rows), RATE, *model_parameters(mlp())])
        found = plan.executor(tensors) is not None
        if not found:
            plan.first_run(tensors)
        return found

    assert [known(rows) for rows in (1, 2, 3, 1, 4, 1, 2)] == [False, False, False, True, False, True, False]


def test_executors_of_ever_new_shapes_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[object]] = []

    def noted(*args: Any) -> Any:
        run = compile_graph(*args)
        made.append(weakref.ref(run))
        return run

    monkeypatch.setattr("fedplan.plan.plan._EXECUTORS", (3, 3))
    monkeypatch.setattr("fedplan.plan.plan.compile_graph", noted)
    model, plan = traced("MLP")
    run = repeated(dataclasses.replace(plan), model_parameters(model))
    for rows in range(1, 13):
        run(vectors(rows))
    gc.collect()
    assert [executor() is not None for executor in made] == [False] * 9 + [True] * 3
