"""Pools and their gradients are the same in tfjs."""

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from fedplan.plan import trace
from fedplan.plan.run.interpreter import interpret
from fedplan.plan.variants.tfjs.interpreter import execute
from tests.plan.variants.tfjs.agreement import agrees, close, gradients, role_of


def cube(x: torch.Tensor) -> torch.Tensor:
    """(batch, 2, 6, 9) as (batch, 2, 6, 3, 3)."""
    return x.unflatten(3, (3, 3))


POOLS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "max": lambda x: F.max_pool2d(x, 2),
    "max, overlapping": lambda x: F.max_pool2d(x, 3, stride=2),
    "max, padded": lambda x: F.max_pool2d(x, 3, stride=2, padding=1),
    "max, dilated": lambda x: F.max_pool2d(x, 2, stride=1, dilation=2),
    "max, oblong": lambda x: F.max_pool2d(x, (2, 3), stride=(1, 2)),
    "max, rounded up": lambda x: F.max_pool2d(x, 4, stride=3, padding=1, ceil_mode=True),
    "max, of each picture": lambda x: torch.stack([F.max_pool2d(x[:, 0], 2), F.max_pool2d(x[:, 1], 2)], 1),
    "mean": lambda x: F.avg_pool2d(x, 2),
    "mean, overlapping and padded": lambda x: F.avg_pool2d(x, 3, stride=2, padding=1),
    "mean, rounded up": lambda x: F.avg_pool2d(x, 4, stride=3, padding=1, ceil_mode=True),
    "mean, of what is there": lambda x: F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False),
    "mean, rounded up, of what is there": lambda x: F.avg_pool2d(x, 4, 3, 1, True, False),
    "mean, with a divisor": lambda x: F.avg_pool2d(x, 2, padding=1, divisor_override=3),
    "mean, into equal pieces": lambda x: F.adaptive_avg_pool2d(x, (2, 3)),
    "mean, into uneven pieces": lambda x: F.adaptive_avg_pool2d(x, (4, 5)),
    "mean, into more pieces": lambda x: F.adaptive_avg_pool2d(x, (7, 9)),
    "mean, of lines": lambda x: F.avg_pool1d(x.flatten(2), 4, stride=3, padding=1),
    "mean, of lines into pieces": lambda x: F.adaptive_avg_pool1d(x.flatten(2), 7),
    "max, into equal pieces": lambda x: F.adaptive_max_pool2d(x, (2, 3)),
    "max, into uneven pieces": lambda x: F.adaptive_max_pool2d(x, (4, 5)),
    "of neighbouring channels": lambda x: F.local_response_norm(x, 2),
    "max, of lines into pieces": lambda x: F.adaptive_max_pool1d(x.flatten(2), 7),
    "max, of volumes": lambda x: F.max_pool3d(cube(x), 2, stride=(2, 1, 1), padding=(1, 0, 1)),
    "max, of volumes into pieces": lambda x: F.adaptive_max_pool3d(cube(x), (4, 2, 3)),
    "mean, of volumes": lambda x: F.avg_pool3d(cube(x), (3, 2, 2), stride=(2, 1, 1), padding=1),
    "mean, of volumes into pieces": lambda x: F.adaptive_avg_pool3d(cube(x), (4, 3, 1)),
    "a norm": lambda x: F.lp_pool2d(x.abs() + 0.1, 2, 2),
}


POOLS_OF_VOLUMES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "max": lambda x: F.max_pool3d(x, 2),
    "max, padded and dilated": lambda x: F.max_pool3d(x, 2, stride=1, padding=1, dilation=2),
    "max, rounded up": lambda x: F.max_pool3d(x, (2, 3, 2), stride=2, ceil_mode=True),
    "max, into uneven pieces": lambda x: F.adaptive_max_pool3d(x, (2, 3, 4)),
    "mean": lambda x: F.avg_pool3d(x, 2),
    "mean, padded, of what is there": lambda x: F.avg_pool3d(x, 2, 1, 1, count_include_pad=False),
    "mean, into uneven pieces": lambda x: F.adaptive_avg_pool3d(x, (2, 3, 4)),
    "mean, into one piece": lambda x: F.adaptive_avg_pool3d(x, 1),
}


@pytest.mark.some(8)
@pytest.mark.parametrize("name", POOLS_OF_VOLUMES)
def test_a_pool_of_volumes_and_its_gradient(name: str) -> None:
    agrees(gradients(POOLS_OF_VOLUMES[name]), torch.zeros(2, 2, 4, 5, 6))


@pytest.mark.some(12)
@pytest.mark.parametrize("name", POOLS)
def test_a_pool_and_its_gradient(name: str) -> None:
    agrees(gradients(POOLS[name]), torch.zeros(2, 2, 6, 9))


def test_of_equal_maxima_the_first_gets_the_gradient() -> None:
    plan = trace(gradients(lambda x: F.max_pool2d(x, 3, stride=1)), torch.zeros(2, 1, 5, 5))
    arguments = [torch.randint(0, 2, (3, 1, 5, 5)).float()]
    for made, expected in zip(
        execute(role_of(plan), arguments), interpret(plan.graph, arguments), strict=True
    ):
        close(made, expected)


@pytest.mark.parametrize("options", [(2,), (3, 2, 1), (2, 1, 0, 2), (4, 3, 1, 1, True)], ids=str)
def test_where_the_maxima_are(options: tuple[int, ...]) -> None:
    agrees(lambda x: F.max_pool2d(x, *options, return_indices=True), torch.zeros(2, 2, 6, 9))


def test_where_the_maxima_of_volumes_are() -> None:
    agrees(lambda x: F.max_pool3d(x, 2, return_indices=True), torch.zeros(2, 2, 4, 5, 6))
    agrees(lambda x: F.adaptive_max_pool2d(x, (4, 3), return_indices=True), torch.zeros(2, 2, 6, 9))


def test_maxima_put_back_where_they_were() -> None:
    def there_and_back(x: torch.Tensor) -> torch.Tensor:
        highest, where = F.max_pool2d(x, 2, return_indices=True)
        return F.max_unpool2d(highest, where, 2, output_size=x.shape[2:])

    agrees(gradients(there_and_back), torch.zeros(2, 2, 6, 8))
