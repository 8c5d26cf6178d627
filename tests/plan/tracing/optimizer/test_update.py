"""Every optimizer of `torch.optim` inside a Plan equals the optimizer itself, or is refused."""

import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedplan.errors import TraceError
from fedplan.plan import Plan, PlanInputSpec, model_parameters, training_plan
from fedplan.plan.ops import DTYPES

REFUSED = {"LBFGS": "takes a closure", "SparseAdam": "does not support dense gradients"}

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "Adagrad": [{"initial_accumulator_value": 0.1}, {"lr_decay": 0.1, "weight_decay": 0.1}],
    "Adam": [{"amsgrad": True, "weight_decay": 0.1}, {"maximize": True}],
    "AdamW": [{"amsgrad": True}],
    "ASGD": [{"t0": 1}],
    "NAdam": [{"decoupled_weight_decay": True, "weight_decay": 0.1}],
    "RAdam": [{"decoupled_weight_decay": True, "weight_decay": 0.1}],
    "RMSprop": [{"centered": True, "momentum": 0.9}],
    "SGD": [
        {"momentum": 0.9, "dampening": 0.5},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        {"maximize": True},
    ],
}
"""Settings to try besides the defaults."""

KINDS = [
    kind
    for kind in vars(torch.optim).values()
    if isinstance(kind, type)
    and issubclass(kind, torch.optim.Optimizer)
    and kind is not torch.optim.Optimizer
]


def settings() -> Iterator[Any]:
    for kind in KINDS:
        if kind.__name__ not in REFUSED:
            for options in ({}, *OPTIONS.get(kind.__name__, [])):
                name = ", ".join([kind.__name__, *(f"{k}={v}" for k, v in options.items())])
                yield pytest.param(functools.partial(kind, **options), id=name)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8, bias=False), nn.Tanh(), nn.Linear(8, 3, bias=False))


def batch(rows: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(rows, 6), torch.randint(3, (rows,))


def zeros(plan: Plan) -> list[torch.Tensor]:
    kind = PlanInputSpec.TYPE_OPTIMIZER_STATE
    return [
        torch.zeros([e or 0 for e in i.shape or ()], dtype=DTYPES[i.dtype or ""])
        for i in plan.inputs
        if i.spec is not None and i.spec.type == kind
    ]


def compare(
    plan: Plan,
    start: nn.Module,
    make: Callable[[nn.Module], torch.optim.Optimizer],
    lr: float | None,
    steps: int = 4,
) -> None:
    """Runs the Plan and the optimizer side by side."""
    eager = copy.deepcopy(start)
    optimizer = make(eager)
    params, state = model_parameters(start), zeros(plan)
    for _ in range(steps):
        x, y = batch()
        optimizer.zero_grad()
        F.cross_entropy(eager(x), y).backward()
        optimizer.step()
        _, *rest = plan(x, y, *([] if lr is None else [lr]), *params, *state)
        params, state = rest[: len(params)], rest[len(params) :]
        for ours, theirs in zip(params, model_parameters(eager), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-6)


@pytest.mark.some(18)
@pytest.mark.parametrize("make", list(settings()))
def test_an_optimizer_in_a_plan_equals_itself_with_a_rate_from_the_client_config(make: Any) -> None:
    start = model()
    plan = training_plan(start, F.cross_entropy, example=batch(), optimizer=make)
    compare(plan, start, lambda eager: make(eager.parameters(), lr=0.05), 0.05)


@pytest.mark.some(12)
@pytest.mark.parametrize("make", list(settings()))
def test_an_optimizer_in_a_plan_equals_itself_with_a_rate_of_its_own(make: Any) -> None:
    start = model()
    plan = training_plan(start, F.cross_entropy, example=batch(), optimizer=make, lr=0.05)
    assert not [i for i in plan.inputs if i.spec and i.spec.type == PlanInputSpec.TYPE_CLIENT_CONFIG_PARAM]
    compare(plan, start, lambda eager: make(eager.parameters(), lr=0.05), None)


@pytest.mark.parametrize("name", REFUSED)
def test_an_optimizer_that_is_no_function_of_gradients_is_refused(name: str) -> None:
    with pytest.raises(TraceError, match=f"(?s){name}.*{REFUSED[name]}"):
        training_plan(model(), F.cross_entropy, example=batch(), optimizer=getattr(torch.optim, name))


def test_parameter_groups_keep_their_settings_and_the_ratio_of_their_rates() -> None:
    start = model()

    def grouped(of: nn.Module) -> torch.optim.Optimizer:
        first, second = of.parameters()
        return torch.optim.AdamW(
            [
                {"params": [first], "weight_decay": 0.5},
                {"params": [second], "lr": 0.005, "weight_decay": 0.0},
            ],
            lr=0.05,
        )

    plan = training_plan(start, F.cross_entropy, example=batch(), optimizer=grouped(start))
    compare(plan, start, grouped, 0.05)


def test_parameters_outside_of_the_optimizer_are_not_trained() -> None:
    start = model()

    def second_only(of: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD([[*of.parameters()][1]], lr=0.05)

    plan = training_plan(start, F.cross_entropy, example=batch(), optimizer=second_only(start))
    compare(plan, start, second_only, 0.05)


@pytest.mark.parametrize(("own", "told"), [({"lr": 0.0}, "its own is 0"), ({}, "its own is 0.001")])
def test_rates_of_groups_that_have_no_ratio_to_a_given_one_are_refused(own: Any, told: str) -> None:
    start = model()
    groups = [{"params": [p], "lr": rate} for p, rate in zip(start.parameters(), (0.3, 0.1), strict=True)]
    with pytest.raises(TraceError, match=rf"the rates 0\.3, 0\.1, and {told}, .*SGD\(groups, lr=0\.3\)"):
        training_plan(start, F.cross_entropy, example=batch(), optimizer=torch.optim.SGD(groups, **own))


class Half(nn.Module):
    """Of three layers one or two are used."""

    def __init__(self, used: str) -> None:
        super().__init__()
        self.used = used
        self.first, self.second, self.third = nn.Linear(6, 3), nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return sum((getattr(self, name)(x) for name in self.used.split()), torch.zeros(3))


@pytest.mark.parametrize("used", ["first", "third", "second third"])
@pytest.mark.parametrize("make", [case for case in settings() if case.id != "Muon"])  # takes matrices alone
def test_a_parameter_that_the_loss_ignores_is_left_alone_as_optimizers_do(make: Any, used: str) -> None:
    start = Half(used)
    plan = training_plan(start, F.cross_entropy, example=batch(), optimizer=make)
    compare(plan, start, lambda eager: make(eager.parameters(), lr=0.05), 0.05)


def test_nothing_is_kept_for_a_parameter_that_the_loss_ignores() -> None:
    plan = training_plan(Half("second"), F.cross_entropy, example=batch(), optimizer=torch.optim.AdamW)
    assert len(zeros(plan)) == 1 + 2 * 2  # a step, and two moments for weight and bias of the used layer


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.NAdam, torch.optim.Adamax])
def test_what_it_divides_by_at_first_is_as_exact_as_its_own(kind: Any) -> None:
    """1 - 0.999 is 1.3e-5 off, relatively, where 0.999 is a float32."""
    start, eager = model(), model()
    optimizer = kind(eager.parameters(), lr=1.0)
    plan = training_plan(start, F.cross_entropy, example=batch(), optimizer=kind)
    x, y = batch()
    F.cross_entropy(eager(x), y).backward()
    optimizer.step()
    _, *new = plan(x, y, 1.0, *model_parameters(start), *zeros(plan))
    for before, ours, theirs in zip(model_parameters(start), new, eager.parameters(), strict=False):
        torch.testing.assert_close(ours - before, theirs - before, rtol=1e-6, atol=1e-6)


def test_a_count_that_is_the_same_for_all_parameters_is_kept_once() -> None:
    plan = training_plan(model(), F.cross_entropy, example=batch(), optimizer=torch.optim.AdamW)
    assert [i.name for i in plan.inputs if i.name == "optimizer step"] == ["optimizer step"]


class Scalars(nn.Module):
    """A model of numbers: two that begin alike, and a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.tensor(1.0)) for _ in range(2))
        self.weight = nn.Parameter(torch.full((6, 3), 0.1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a * (x @ self.weight) + self.b**2 * x[:, :3]


@pytest.mark.some(8)
@pytest.mark.parametrize("make", [*settings()])
def test_parameters_that_are_numbers_have_a_state_each(make: Any) -> None:
    start = Scalars()
    if make.func is torch.optim.Muon:
        pytest.skip("Muon takes matrices only")
    plan = training_plan(start, F.cross_entropy, example=batch(), optimizer=make)
    compare(plan, start, lambda eager: make(eager.parameters(), lr=0.05), 0.05)


def test_groups_with_settings_of_their_own_count_for_themselves() -> None:
    """ASGD begins to average after `t0` steps, which the first ones do not show."""
    start = model()

    def grouped(of: nn.Module) -> torch.optim.Optimizer:
        first, second = of.parameters()
        return torch.optim.ASGD([{"params": [first], "t0": 4}, {"params": [second]}], lr=0.05)

    plan = training_plan(start, F.cross_entropy, example=batch(), optimizer=grouped(start))
    assert len([i for i in plan.inputs if i.name == "optimizer mu"]) == 2


class Capped(torch.optim.Optimizer):
    """Divides each step by the largest gradient so far, which is at least one."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                largest = self.state[parameter].get("largest", torch.tensor(1.0))
                largest = torch.maximum(largest, parameter.grad.abs().max() / self.reach)
                self.state[parameter]["largest"] = largest
                parameter.sub_(group["lr"] * parameter.grad / largest)

    reach = 1e3


def test_numbers_that_agree_at_first_are_not_taken_for_the_same() -> None:
    plan = training_plan(model(), F.cross_entropy, example=batch(), optimizer=Capped)
    assert len([i for i in plan.inputs if i.name == "optimizer largest"]) == 2


class Together(torch.optim.SGD):
    """Counts all steps of all parameters in one tensor."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        parameters = [p for group in self.param_groups for p in group["params"]]
        count = next((self.state[p]["count"] for p in parameters if self.state[p]), torch.tensor(0.0))
        for parameter in parameters:
            self.state[parameter]["count"] = count.add_(1)
            parameter.sub_(parameter.grad / count)


def test_one_tensor_for_several_parameters_is_refused() -> None:
    with pytest.raises(TraceError, match="Together keeps one tensor, 'count', for several parameters"):
        training_plan(
            model(), F.cross_entropy, example=batch(), optimizer=functools.partial(Together, lr=0.1)
        )


class Counting(torch.optim.SGD):
    """Keeps a number in Python that changes its steps."""

    steps = 0

    def step(self, closure: None = None) -> None:
        self.steps = self.steps + 1
        for group in self.param_groups:
            group["lr"] = group["lr"] / self.steps
        super().step(closure)


def test_an_optimizer_that_counts_in_python_is_refused() -> None:
    with pytest.raises(TraceError, match=r"Counting keeps '(lr|steps)' as a number in Python"):
        training_plan(
            model(), F.cross_entropy, example=batch(), optimizer=functools.partial(Counting, lr=0.1)
        )


def test_an_optimizer_that_refuses_the_parameters_says_so() -> None:
    with pytest.raises(TraceError, match="Muon cannot be made for this model's parameters"):
        training_plan(nn.Linear(6, 3), F.cross_entropy, example=batch(), optimizer=torch.optim.Muon)


def test_an_optimizer_for_another_model_is_refused() -> None:
    with pytest.raises(TraceError, match="holds none of the model's parameters"):
        training_plan(
            model(), F.cross_entropy, example=batch(), optimizer=torch.optim.SGD(model().parameters(), lr=0.1)
        )


def test_one_that_cannot_be_made_again_is_refused_with_what_to_give() -> None:
    class Scaled(torch.optim.SGD):
        def __init__(self, parameters: Any, scale: float) -> None:
            super().__init__(parameters, lr=0.1 * scale)

    start = model()
    with pytest.raises(TraceError, match=r"optimizer=lambda parameters: Scaled\(parameters, …\)"):
        training_plan(
            start, F.cross_entropy, example=batch(), optimizer=Scaled(list(start.parameters()), 2.0)
        )
    training_plan(
        start, F.cross_entropy, example=batch(), optimizer=lambda parameters: Scaled(parameters, 2.0)
    )


def test_a_scheduler_that_warms_up_does_not_set_the_rates() -> None:
    start = model()
    optimizer = torch.optim.SGD(
        [{"params": [p], "lr": lr} for p, lr in zip(start.parameters(), (0.1, 0.2), strict=True)], lr=0.1
    )
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 100)
    assert [group["lr"] for group in optimizer.param_groups] == [0.0, 0.0]
    plan = training_plan(start, F.cross_entropy, example=batch(), optimizer=optimizer)
    x, y = batch()
    made = plan(x, y, 0.1, *model_parameters(start))[1:]
    F.cross_entropy(start(x), y).backward()
    for new, parameter, rate in zip(made, start.parameters(), (0.1, 0.2), strict=True):
        torch.testing.assert_close(new, (parameter - rate * parameter.grad).detach())


def test_a_function_that_makes_groups_sees_what_is_noted_on_the_parameters() -> None:
    start = model()
    start[0].weight.no_decay = True

    def grouped(parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
        noted = [p for p in parameters if getattr(p, "no_decay", False)]
        others = [p for p in parameters if not getattr(p, "no_decay", False)]
        groups = [{"params": noted, "weight_decay": 0.0}, {"params": others, "weight_decay": 0.5}]
        return torch.optim.SGD(groups, lr=0.1)

    plan = training_plan(start, F.cross_entropy, example=batch(), optimizer=grouped)
    x, y = batch()
    made = plan(x, y, 0.1, *model_parameters(start))[1:]
    F.cross_entropy(start(x), y).backward()
    for new, parameter, decay in zip(made, start.parameters(), (0.0, 0.5), strict=True):
        torch.testing.assert_close(new, (parameter - 0.1 * (parameter.grad + decay * parameter)).detach())
