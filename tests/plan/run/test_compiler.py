"""What a run hands out belongs to the caller: the Plan's own tensors stay as they are."""

from collections.abc import Callable

import pytest
import torch

from fedplan.plan import Plan, trace

Rewrite = Callable[[torch.Tensor], torch.Tensor]

LARGE = 40_000
"""Elements of a constant that is too large for its views to be computed in advance."""


@pytest.mark.parametrize("size", [8, LARGE])
@pytest.mark.parametrize(
    "form",
    [
        lambda table: table,
        lambda table: table.reshape(-1),
        lambda table: table[1:],
        lambda table: table.t()[0],
        lambda table: table.expand(3, *table.shape),
        lambda table: table.chunk(2)[1],
    ],
)
def test_who_writes_to_a_result_does_not_change_the_plan(size: int, form: Rewrite) -> None:
    table = torch.arange(float(size)).reshape(-1, 2)
    plan, x = trace(lambda x: (x + 1, form(table)), torch.zeros(3)), torch.zeros(3)
    before = plan.serialize()
    for _ in range(3):  # the interpreter's run, the compiled ones
        found = plan(x)[1]
        assert torch.equal(found, form(table))
        (found if found.is_contiguous() else found[0]).zero_()
    assert plan.serialize() == before
    assert torch.equal(Plan.parse(before)(x)[1], form(table))


def test_a_plan_keeps_no_tensor_of_the_functions() -> None:
    table = torch.ones(3)
    plan = trace(lambda x: x + table, torch.zeros(3))
    table.zero_()
    assert torch.equal(plan(torch.zeros(3))[0], torch.ones(3))
