"""Splits that look at no label: sizes."""

import numpy as np
import pytest

from fedplan.data import partition_quantity
from fedplan.errors import DataError


def test_alpha_sets_how_much_sizes_differ():
    def spread(alpha):
        return np.mean(
            [np.std([len(p) for p in partition_quantity(10_000, 20, alpha=alpha, seed=s)]) for s in range(9)]
        )

    assert spread(1e6) < 2
    assert spread(1e6) < spread(10) < spread(1) < spread(0.1)


def test_a_tiny_alpha_gives_one_part_nearly_everything():
    sizes = sorted(len(part) for part in partition_quantity(1000, 10, alpha=1e-6, least=3))
    assert sizes == [3] * 9 + [973]


def test_fewer_samples_than_the_parts_need_is_an_error():
    with pytest.raises(DataError, match="19 samples cannot fill 4 parts: each needs at least 5"):
        partition_quantity(19, 4, alpha=1, least=5)


@pytest.mark.parametrize("least", [0, -1, 1.5])
def test_no_least_size_is_an_error(least):
    with pytest.raises(DataError, match="at least 1 sample"):
        partition_quantity(19, 4, alpha=1, least=least)
