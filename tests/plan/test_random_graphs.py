"""Random functions: eager PyTorch, the interpreter and the fast executor agree, also after the wire."""

import dataclasses
from collections.abc import Callable

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedplan.plan import Plan, RepeatedPlan, trace
from fedplan.plan.run.interpreter import interpret
from tests.long import LONG

Values = list[torch.Tensor]

UNARY: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "neg": torch.neg,
    "abs": torch.abs,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "exp": lambda v: torch.exp(v.clamp(-5, 5)),
    "sqrt": lambda v: (v.abs() + 0.1).sqrt(),
    "log": lambda v: (v.abs() + 0.1).log(),
    "square": torch.square,
    "softmax": lambda v: v.softmax(dim=-1),
    "mean and back": lambda v: v.mean(dim=0).expand_as(v),
    "sum, keepdim": lambda v: v.sum(dim=1, keepdim=True) + torch.zeros_like(v),
    "transpose twice": lambda v: v.t().t(),
    "matrix product": lambda v: v @ (v.t() @ v),
    "flip": lambda v: v.flip(1),
    "half and half": lambda v: torch.cat(v.chunk(2, dim=1)[::-1], dim=1),
    "in place": lambda v: v.clone().mul_(2).add_(1),
    "write a column": lambda v: torch.cat([v[:, :1] * 0, v[:, 1:]], dim=1),
    "through a view": lambda v: v.reshape(-1).clone().view(v.shape),
    "cumulative sum": lambda v: v.cumsum(dim=1),
    "gather": lambda v: v.gather(1, v.argmax(dim=1, keepdim=True).expand(-1, v.shape[1])),
    "round trip through int": lambda v: v.to(torch.int64).to(torch.float32),
}

BINARY: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": lambda a, b: a / (b.abs() + 1),
    "maximum": torch.maximum,
    "where": lambda a, b: torch.where(a > b, a, b * 0.5),
    "scaled": lambda a, b: torch.add(a, b, alpha=-0.3),
    "row times column": lambda a, b: a * b.sum(dim=0),
}

COLUMNS = 4


@dataclasses.dataclass(frozen=True)
class Program:
    """Steps on a growing list of (rows, 4) tensors; each step names an operation and two earlier values."""

    steps: tuple[tuple[str, int, int], ...]

    def __call__(self, x: torch.Tensor, w: torch.Tensor) -> Values:
        values: Values = [x, x @ w]
        for name, i, j in self.steps:
            a, b = values[i % len(values)], values[j % len(values)]
            values.append(BINARY[name](a, b) if name in BINARY else UNARY[name](a))
        return values[2:] or values


programs = st.lists(
    st.tuples(st.sampled_from([*UNARY, *BINARY]), st.integers(0, 20), st.integers(0, 20)), max_size=8
).map(lambda steps: Program(tuple(steps)))


def check(function: Callable[..., Values], rows: int) -> None:
    torch.manual_seed(rows)
    plan = trace(function, torch.randn(3, COLUMNS), torch.randn(COLUMNS, COLUMNS).requires_grad_())
    x, w = torch.randn(rows, COLUMNS), torch.randn(COLUMNS, COLUMNS)
    expected = [value.detach() for value in function(x, w)]
    interpreted = interpret(plan.graph, [x, w])
    for outputs in (plan(x, w), Plan.parse(plan.serialize())(x, w)):
        for fast, slow in zip(outputs, interpreted, strict=True):
            torch.testing.assert_close(fast, slow, rtol=0, atol=0, equal_nan=True)
    check_repeated(plan, x, w)
    for ours, eager in zip(interpreted, expected, strict=True):
        torch.testing.assert_close(ours, eager, rtol=1e-5, atol=1e-5, equal_nan=True)


def check_repeated(plan: Plan, x: torch.Tensor, w: torch.Tensor) -> None:
    """With w given up for the last output of its shape, results differ by rounding only."""
    interpreted = interpret(plan.graph, [x, w])
    place = next((k for k, v in reversed(list(enumerate(interpreted))) if v.shape == w.shape), None)
    carried = {} if place is None or interpreted[place].dtype != w.dtype else {1: place}
    outputs = RepeatedPlan(plan, [x, w.clone()], varying=[], carried=carried, fixed=[0])([])
    torch.testing.assert_close(outputs, interpreted, rtol=1e-5, atol=1e-5, equal_nan=True)


relaxed = settings(
    max_examples=40 if LONG else 10,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)


@relaxed
@given(programs, st.integers(1, 6))
def test_a_random_function_runs_the_same_everywhere(program: Program, rows: int) -> None:
    check(program, rows)


@relaxed
@given(programs, st.integers(2, 6))
def test_its_gradient_does_too(program: Program, rows: int) -> None:
    def gradient(x: torch.Tensor, w: torch.Tensor) -> Values:
        w = w.detach().requires_grad_()
        result = sum((value.tanh().mean() for value in program(x, w)), start=(w * 0).sum())
        return list(torch.autograd.grad(result, [w]))

    check(gradient, rows)
