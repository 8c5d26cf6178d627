"""Sorting is the same in tfjs, where each pair is compared."""

from collections.abc import Callable

import pytest
import torch

from fedplan.plan import trace
from fedplan.plan.run.interpreter import interpret
from fedplan.plan.variants.tfjs.interpreter import execute
from tests.plan.variants.tfjs.agreement import agrees, close, gradients, role_of

ORDERS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sorted": lambda x: x.sort().values,
    "sorted along the batch": lambda x: x.sort(0).values,
    "sorted from the end": lambda x: x.sort(descending=True).values,
    "the three largest": lambda x: x.topk(3).values,
    "the two smallest, in the middle": lambda x: x.unsqueeze(2).topk(2, 1, largest=False).values,
    "the largest": lambda x: x.topk(1).values,
    "losses of the hardest": lambda x: x.square().sum(1).topk(2).values,
}


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_and_its_gradient(name: str) -> None:
    agrees(gradients(ORDERS[name]), torch.zeros(4, 5))


def test_where_the_sorted_numbers_were() -> None:
    agrees(
        lambda x: (x.argsort(), x.topk(2).indices, x.argsort(0, descending=True), x.topk(1).indices),
        torch.zeros(4, 5),
    )


def test_of_equal_numbers_the_earlier_comes_first() -> None:
    plan = trace(lambda n: n.sort(), torch.zeros(3, 6, dtype=torch.int64))
    arguments = [torch.randint(0, 3, (5, 6))]
    for made, expected in zip(
        execute(role_of(plan), arguments), interpret(plan.graph, arguments), strict=True
    ):
        close(made, expected)
