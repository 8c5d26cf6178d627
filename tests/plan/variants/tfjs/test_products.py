"""Matrix products over odd extents are made of matrices with zeros around them, for WebGL."""

import torch
from torch import Tensor

from fedplan.plan import trace
from tests.plan.variants.tfjs.agreement import agrees, role_of


def commands(function: object, *examples: Tensor) -> list[str]:
    return [action.command for action in role_of(trace(function, *examples)).actions]  # type: ignore[arg-type]


def test_a_product_over_an_even_extent_is_one_action() -> None:
    weight = torch.randn(6, 3).requires_grad_()
    assert commands(torch.matmul, torch.zeros(4, 6), weight).count("tf.pad") == 0


def test_both_factors_have_zeros_beyond_an_odd_extent() -> None:
    weight = torch.randn(7, 3).requires_grad_()
    assert commands(torch.matmul, torch.zeros(4, 7), weight).count("tf.pad") == 2
    agrees(torch.matmul, torch.zeros(4, 7), weight)


def test_and_beyond_one_that_follows_the_batch() -> None:
    assert commands(lambda x, y: x.T @ y, torch.zeros(4, 6), torch.zeros(4, 2)).count("tf.pad") == 2
    agrees(lambda x, y: x.T @ y, torch.zeros(4, 6), torch.zeros(4, 2))


def test_a_batch_of_products() -> None:
    x = torch.zeros(4, 2, 5)
    assert commands(lambda x: x @ x.mT, x).count("tf.pad") == 1  # both factors are the same one
    agrees(lambda x: x @ x.mT, x)
