import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedplan.errors import ConfigError
from fedplan.federation.schedule import config_at


def at(cycle, **schedule):
    return config_at({"lr": schedule, "name": "m", "own": {"a": 1}}, cycle)["lr"]


def test_a_step_multiplies_after_so_many_cycles():
    found = [at(cycle, schedule="step", start=0.8, factor=0.5, every=2) for cycle in range(1, 7)]
    assert found == [0.8, 0.8, 0.4, 0.4, 0.2, 0.2]


def test_a_cosine_falls_to_its_end_and_stays():
    found = [at(cycle, schedule="cosine", start=1.0, end=0.2, cycles=4) for cycle in (1, 3, 5, 99)]
    assert found == pytest.approx([1.0, 0.6, 0.2, 0.2])
    assert at(2, schedule="cosine", start=1.0, cycles=4) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)


def test_a_line_and_listed_values():
    assert [at(c, schedule="linear", start=0.0, end=1.0, cycles=2) for c in (1, 2, 3, 4)] == [
        0.0,
        0.5,
        1.0,
        1.0,
    ]
    assert [at(c, schedule="values", values=[3.0, 1.0]) for c in (1, 2, 3)] == [3.0, 1.0, 1.0]


def test_a_warm_up_rises_to_the_start():
    found = [at(c, schedule="step", start=1.0, factor=0.5, warmup=3) for c in range(1, 7)]
    assert found == [0.25, 0.5, 0.75, 1.0, 0.5, 0.25]


@given(st.integers(1, 50))
def test_integers_stay_integers_and_floats_floats(cycle):
    assert isinstance(at(cycle, schedule="linear", start=1, end=9, cycles=20), int)
    assert isinstance(at(cycle, schedule="linear", start=1.0, end=9, cycles=20), float)
    assert isinstance(at(cycle, schedule="values", values=[1, 2]), int)


def test_everything_else_of_a_config_stays_as_it_is():
    config = {"lr": {"schedule": "values", "values": [1]}, "own": {"a": {"schedule": 1}}, "n": None}
    assert config_at(config, 1) == {"lr": 1, "own": {"a": {"schedule": 1}}, "n": None}


@pytest.mark.parametrize(
    ("schedule", "why"),
    [
        ({"schedule": "sawtooth"}, "there is no schedule 'sawtooth'; there are step, cosine, linear, values"),
        ({"schedule": 3}, "there is no schedule 3"),
        ({"schedule": "step", "start": 1.0}, "'factor': Field required"),
        ({"schedule": "step", "start": 1.0, "factor": 0.0}, "'factor': Input should be greater than 0"),
        ({"schedule": "values", "values": []}, "'values': List should have at least 1 item"),
        ({"schedule": "cosine", "start": 1.0, "cycles": 4, "stop": 1}, "'stop' is not a key of it"),
    ],
)
def test_what_is_wrong_with_a_schedule_is_said(schedule, why):
    with pytest.raises(ConfigError, match=f"client_config: 'lr': .*{why}"):
        config_at({"lr": schedule}, 1)
