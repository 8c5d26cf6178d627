"""Random functions and their gradients: tfjs computes what the interpreter does."""

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedplan.plan import trace
from fedplan.plan.run.interpreter import interpret
from fedplan.plan.variants.tfjs.interpreter import execute
from fedplan.plan.variants.tfjs.translate import translate
from tests.long import LONG
from tests.plan.test_random_graphs import BINARY, COLUMNS, UNARY, Program, Values

SAYABLE = [name for name in (*UNARY, *BINARY) if name != "gather"]

programs = st.lists(
    st.tuples(st.sampled_from(SAYABLE), st.integers(0, 20), st.integers(0, 20)), max_size=8
).map(lambda steps: Program(tuple(steps)))


@settings(
    max_examples=15 if LONG else 8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)
@given(programs, st.integers(1, 6), st.booleans())
def test_a_random_function_is_the_same_in_tfjs(program: Program, rows: int, gradient: bool) -> None:
    def slope(x: torch.Tensor, w: torch.Tensor) -> Values:
        w = w.detach().requires_grad_()
        result = sum((value.tanh().mean() for value in program(x, w)), start=(w * 0).sum())
        return list(torch.autograd.grad(result, [w]))

    torch.manual_seed(rows)
    plan = trace(
        slope if gradient else program,
        torch.randn(3, COLUMNS),
        torch.randn(COLUMNS, COLUMNS).requires_grad_(),
    )
    arguments = [torch.randn(rows, COLUMNS), torch.randn(COLUMNS, COLUMNS)]
    expected = interpret(plan.graph, arguments)
    for made, wanted in zip(execute(translate(plan.graph, plan.inputs), arguments), expected, strict=True):
        torch.testing.assert_close(made, wanted, rtol=1e-4, atol=1e-4, equal_nan=True)
