"""How large a report may be: a bound that no training comes to, and that no report ruins a model within."""

import numpy as np
import pytest

from fedplan.errors import DiffRefusedError
from fedplan.federation import reach_of
from fedplan.federation.refusals import check_change, needs_no_look
from fedplan.plan import Role

from .made import setting, wire

LAYOUT = (((4,), "float32"),)
PRIVACY = {"clip": 1.0, "noise_multiplier": 1.0, "cohort": 10, "delta": 1e-5}


def taken(model, diff, layout=LAYOUT, roles=None, **server):
    """Whether a diff of one value throughout is taken, of a model of one value throughout."""
    of = setting(server, layout=layout, roles=roles)
    tensors = [[wire(np.full(shape, value), dtype) for shape, dtype in layout] for value in (model, diff)]
    try:
        check_change(of, *tensors)
    except DiffRefusedError:
        assert not needs_no_look(of, *map(reach_of, tensors))
        return False
    return True


@pytest.mark.parametrize("model", [1.0, 250.0, -4e9])
def test_a_report_may_have_a_thousand_times_the_norm_of_the_model(model):
    assert taken(model, 999 * model)
    assert not taken(model, 1001 * model)


@pytest.mark.parametrize("model", [0.0, 1e-30, 0.4])
def test_a_model_whose_norm_is_less_than_one_counts_as_one_of_one(model):
    assert taken(model, 499.0)  # four numbers: a norm of 998
    assert not taken(model, 501.0)


def test_the_bound_is_of_all_trained_tensors_together():
    half = (((2,), "float32"), ((2,), "float32"))
    assert taken(0.0, 499.0, half)
    assert not taken(0.0, 501.0, half)


def test_running_statistics_and_counters_do_not_count():
    three = (*LAYOUT, ((4,), "float32"), ((), "int64"))
    roles = (Role.TRAINED, Role.AVERAGED, Role.COUNTER)
    assert taken(1.0, 900.0, three, roles, max_norm=1800.0)
    assert not taken(1.0, 901.0, three, roles, max_norm=1800.0)


def test_the_owner_of_a_model_may_say_another_bound():
    assert taken(0.0, 1e30, max_norm=1e300)
    assert not taken(100.0, 2.0, max_norm=3.9)


def test_a_clip_bounds_what_a_report_changes_so_its_norm_may_be_any_unless_the_owner_bounds_it():
    assert taken(0.0, 1e30, privacy=PRIVACY)
    assert not taken(0.0, 1e30, privacy=PRIVACY, max_norm=1e9)


def test_numbers_whose_squares_are_infinite_are_measured_all_the_same():
    wide = (((4,), "float64"),)
    assert not taken(0.0, 1e200, wide)
    assert taken(0.0, 1e200, wide, max_norm=2.1e200)
    assert not taken(0.0, 1e200, wide, max_norm=1.9e200)


def test_nearly_every_report_is_seen_to_be_within_the_bound_without_a_look_at_its_numbers():
    of = setting(layout=(((1000, 1000), "float32"),))
    assert needs_no_look(of, (0.05,), (0.9,))  # a norm of 900 at most
    assert not needs_no_look(of, (0.05,), (1.1,))


def test_a_diff_after_which_the_model_cannot_exist_is_refused_whatever_its_norm():
    of = setting({"max_norm": 1e300}, layout=LAYOUT)
    model, diff = [wire([3e38] * 4)], [wire([-3e38] * 4)]
    assert not needs_no_look(of, reach_of(model), reach_of(diff))
    with pytest.raises(DiffRefusedError, match="the diff does not fit the model"):
        check_change(of, model, diff)
