"""What is written in place, viewed or composed becomes plain operations with the same results."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from fedplan.plan import trace
from fedplan.plan.tracing.plain.apart import Apart
from fedplan.plan.tracing.plain.pieces import Pieces

Tensors = list[torch.Tensor]

VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "transposed": lambda t: t.t(),
    "first": lambda t: t[:1],
    "all but first": lambda t: t[1:],
    "flat": lambda t: t.reshape(-1).view(t.shape),
    "detached": lambda t: t.detach(),
    "copied": lambda t: t.clone(),
    "doubled": lambda t: t * 2,
}
WRITES: dict[str, Callable[[torch.Tensor, torch.Tensor], Any]] = {
    "add": lambda t, other: t.add_(other.sum()),
    "multiply": lambda t, other: t.mul_(0.5).sub_(other.mean()),
    "fill": lambda t, other: t.fill_(3.0),
    "copy": lambda t, other: t.copy_(other.mean() + t.flip(0)),
    "relu": lambda t, other: F.relu(t, inplace=True),
    "lerp": lambda t, other: t.lerp_(torch.ones_like(t), 0.25),
    "add itself": lambda t, other: t.add_(t),
}

steps = st.lists(
    st.tuples(st.sampled_from([*VIEWS, *WRITES]), st.integers(0, 9), st.integers(0, 9)),
    min_size=1,
    max_size=8,
)


def program(taken: list[tuple[str, int, int]]) -> Callable[..., Tensors]:
    """A function that views, writes and reads a growing list of tensors."""

    def run(x: torch.Tensor, y: torch.Tensor) -> Tensors:
        held = [x, y]
        for name, one, other in taken:
            t, o = held[one % len(held)], held[other % len(held)]
            if name in VIEWS:
                held.append(VIEWS[name](t))
            else:
                WRITES[name](t, o)
        return [t.clone() for t in held]

    return run


@settings(max_examples=40)
@given(steps)
def test_views_and_writes_in_any_order_give_what_pytorch_gives(taken: list[tuple[str, int, int]]) -> None:
    x, y = torch.randn(3, 3), torch.randn(3, 3)
    plan = trace(program(taken), x, y, pin_batch=True)
    for made, wanted in zip(plan(x, y), program(taken)(x.clone(), y.clone()), strict=True):
        torch.testing.assert_close(made, wanted)


def test_a_row_that_is_written_shows_in_its_table_and_the_other_way_round() -> None:
    table = torch.zeros(3, 2)

    def step(x: torch.Tensor) -> Tensors:
        rows = table.clone()
        first = rows[0]
        rows += x
        first *= 2
        return [rows, first]

    rows, first = trace(step, torch.ones(3, 2))(torch.ones(3, 2))
    assert rows.tolist() == [[2.0, 2.0], [1.0, 1.0], [1.0, 1.0]]
    assert first.tolist() == [2.0, 2.0]


@pytest.fixture
def taken_apart(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each recording, whether it was taken apart."""
    found: list[bool] = []
    plain = Apart.plain

    def noted(self: Apart, mode: Any) -> Any:
        made = plain(self, mode)
        found.append(made is not None)
        return made

    monkeypatch.setattr(Apart, "plain", noted)
    return found


def step_in_place(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """A step as optimizers take it: the weight is viewed for the product, and then written."""
    own = w.detach().requires_grad_()
    F.relu(x @ own.t(), inplace=True).square().mean().backward()
    with torch.no_grad():
        own.sub_(own.grad, alpha=0.5)
    return own.detach()


def running(x: torch.Tensor, mean: torch.Tensor, var: torch.Tensor) -> Tensors:
    """Batch norm, which writes its running statistics."""
    return [F.batch_norm(x, mean, var, training=True), mean, var]


@pytest.mark.parametrize(
    ("function", "shapes"),
    [(step_in_place, [(4, 3), (2, 3)]), (running, [(4, 3), (3,), (3,)])],
    ids=["a step in place", "running statistics"],
)
def test_what_training_writes_is_followed(
    function: Callable[..., Any], shapes: list[tuple[int, ...]], taken_apart: list[bool]
) -> None:
    given = [torch.rand(shape) for shape in shapes]
    plan = trace(function, *given)
    wanted = function(*(t.clone() for t in given))
    for made, value in zip(plan(*given), wanted if isinstance(wanted, list) else [wanted], strict=True):
        torch.testing.assert_close(made, value)
    assert taken_apart == [True]


def test_a_view_that_is_read_after_its_memory_was_written_needs_the_whole_recording(
    taken_apart: list[bool],
) -> None:
    def step(x: torch.Tensor) -> torch.Tensor:
        copy = x.clone()
        turned = copy.t()
        copy += 1
        return turned.clone()

    assert trace(step, torch.zeros(2, 2), pin_batch=True)(torch.zeros(2, 2))[0].tolist() == [[1.0, 1.0]] * 2
    assert taken_apart == [False]


def test_equal_layers_are_composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    compose = Pieces._made
    monkeypatch.setattr(Pieces, "_made", lambda *given: made.append(given[1]) or compose(*given))
    w = torch.randn(5, 5)

    def deep(x: torch.Tensor, layers: int) -> torch.Tensor:
        for _ in range(layers):
            x = F.layer_norm(F.gelu(x @ w.t()), (5,)).softmax(1)
        return x

    trace(lambda x: deep(x, 1), torch.randn(4, 5))
    few = len(made)
    trace(lambda x: deep(x, 6), torch.randn(4, 5))
    assert len(made) == 2 * few


def test_numbers_that_differ_make_pieces_that_differ() -> None:
    plan = trace(
        lambda x: [F.hardtanh(x, -1.0, 1.0), F.hardtanh(x, -2.0, 2.0), F.hardtanh(x, -1.0, 2.0)],
        torch.zeros(3),
    )
    made = plan(torch.tensor([-3.0, 1.5, 3.0]))
    assert [t.tolist() for t in made] == [[-1.0, 1.0, 1.0], [-2.0, 1.5, 2.0], [-1.0, 1.5, 2.0]]


def test_the_place_of_a_piece_is_that_of_each_call() -> None:
    def two(x: torch.Tensor) -> torch.Tensor:
        once = F.softshrink(x)
        return F.softshrink(once)

    first, second = (
        n.source for n in trace(two, torch.ones(3)).graph.nodes if "softshrink" in n.op or "where" in n.op
    )
    assert first is not None
    assert second is not None
    assert first != second


def test_an_operation_of_sizes_alone_follows_the_batch() -> None:
    def apart(x: torch.Tensor) -> torch.Tensor:
        n = x.shape[0]
        return torch.cat([x, x]) @ x.T - torch.eye(2 * n, dtype=torch.bool)[:, :n].float()

    plan = trace(apart, torch.zeros(4, 3))
    for rows in (2, 5):
        x = torch.randn(rows, 3)
        torch.testing.assert_close(plan(x)[0], apart(x))
