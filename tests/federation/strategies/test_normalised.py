"""FedNova where workers tell steps that nobody can prove."""

import numpy as np
import pytest

from fedplan.federation import ServerState, Update, next_model
from fedplan.wire import Summary
from tests.federation.made import strategy, wire


def fednova_moves(told, diffs, max_norm):
    """How far a model of four numbers is moved, by diffs of equal numbers and the steps told with them."""
    made = strategy("fednova", (((4,), "float64"),), server={"max_norm": max_norm})
    total = made.nothing()
    for steps, value in zip(told, diffs, strict=True):
        made.add(total, Update([wire([value] * 4, "float64")], Summary(1.0, steps)))
    after, _ = next_model(made, [wire([0.0] * 4, "float64")], total.average(), ServerState())
    return -after[0].array


def test_fednovas_step_is_not_longer_than_a_report_may_be_whatever_steps_a_worker_tells():
    lied = fednova_moves([5, 5, 5, 2**40], [0.01] * 4, 1.0)
    assert np.linalg.norm(lied) == pytest.approx(1.0)
    lied = fednova_moves([1, 1000, 1000, 1000], [-0.5, 0.01, 0.01, 0.01], 1.0)
    assert np.linalg.norm(lied) == pytest.approx(1.0)


def test_fednova_with_equal_steps_is_the_mean_also_where_reports_are_bounded():
    np.testing.assert_allclose(fednova_moves([7] * 3, [0.5, 0.5, 0.2], 1.0), [0.4] * 4, rtol=1e-12)
    np.testing.assert_array_equal(fednova_moves([7, 3], [0.0, 0.0], 1.0), [0.0] * 4)
