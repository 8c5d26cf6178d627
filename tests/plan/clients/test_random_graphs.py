"""Random functions and their gradients: many clients at once agree with each client alone."""

from collections.abc import Callable

import torch
from hypothesis import given
from hypothesis import strategies as st

from fedplan.plan import Plan, trace
from fedplan.plan.clients.plan import over_clients
from fedplan.plan.clients.training import ClientsTraining
from fedplan.plan.run.interpreter import interpret
from tests.plan.test_random_graphs import COLUMNS, Program, Values, programs, relaxed


def check(function: Callable[..., Values], rows: int, clients: int) -> None:
    torch.manual_seed(rows)
    plan = trace(function, torch.randn(3, COLUMNS), torch.randn(COLUMNS, COLUMNS).requires_grad_())
    x, w = torch.randn(clients, rows, COLUMNS), torch.randn(clients, COLUMNS, COLUMNS)
    given_x, given_w = x.clone(), w.clone()
    for apart in ((0, 1), (0,), (1,)):
        arguments = [x if 0 in apart else x[0], w if 1 in apart else w[0]]
        made = over_clients(plan)(arguments, apart=apart)
        for client in range(clients):
            own = [value[client] if k in apart else value for k, value in enumerate(arguments)]
            expected = interpret(plan.graph, own)
            for ours, theirs in zip(made, expected, strict=True):
                torch.testing.assert_close(ours[client], theirs, rtol=1e-4, atol=1e-4, equal_nan=True)
    check_repeated(plan, x, w)
    assert torch.equal(x, given_x)
    assert torch.equal(w, given_w)


def check_repeated(plan: Plan, x: torch.Tensor, w: torch.Tensor) -> None:
    """With w given up for the last output of its shape, results differ by rounding only."""
    each = [interpret(plan.graph, [a, b]) for a, b in zip(x, w, strict=True)]
    expected = [torch.stack(values) for values in zip(*each, strict=True)]
    place = next((k for k, v in reversed(list(enumerate(expected))) if v.shape == w.shape), None)
    carried = {} if place is None or expected[place].dtype != w.dtype else {1: place}
    run = ClientsTraining(over_clients(plan), [None, w.clone()], varying=[0], carried=carried, apart=[0, 1])
    torch.testing.assert_close(run([x]), expected, rtol=1e-4, atol=1e-4, equal_nan=True)


@relaxed
@given(programs, st.integers(1, 6), st.integers(1, 4))
def test_a_random_function_gives_each_client_its_own(program: Program, rows: int, clients: int) -> None:
    check(program, rows, clients)


@relaxed
@given(programs, st.integers(2, 6), st.integers(1, 4))
def test_its_gradient_does_too(program: Program, rows: int, clients: int) -> None:
    def gradient(x: torch.Tensor, w: torch.Tensor) -> Values:
        w = w.detach().requires_grad_()
        result = sum((value.tanh().mean() for value in program(x, w)), start=(w * 0).sum())
        return list(torch.autograd.grad(result, [w]))

    check(gradient, rows, clients)
