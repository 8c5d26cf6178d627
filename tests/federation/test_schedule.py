import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedplan.errors import ConfigError
from fedplan.federation.schedule import HORIZON, check_schedules, config_at


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


class TestAScheduleIsRefused:
    @pytest.mark.parametrize(
        ("key", "schedule", "cycle", "number"),
        [
            ("lr", {"schedule": "step", "start": 0.1, "factor": 1e200}, 2, "1e+199"),
            ("lr", {"schedule": "step", "start": 1.0, "factor": 1e20, "every": 3}, 7, "1e+40"),
            ("lr", {"schedule": "step", "start": 10**400, "factor": 0.5}, 1, "inf"),
            ("lr", {"schedule": "linear", "start": 1e308, "end": -1e308, "cycles": 9}, 1, "nan"),
            ("lr", {"schedule": "step", "start": 1e39, "factor": 0.5, "warmup": 9}, 4, "4e+38"),
            ("mine", {"schedule": "values", "values": [1.0, 1e39, 1.0]}, 2, "1e+39"),
            ("batch_size", {"schedule": "step", "start": 8, "factor": 0.1}, 3, "0"),
            ("batch_size", {"schedule": "linear", "start": 8, "end": -1, "cycles": 9}, 9, "0"),
            ("batch_size", {"schedule": "cosine", "start": 1, "end": 2**32, "cycles": 100}, 51, "2147483648"),
            ("max_epochs", {"schedule": "values", "values": [1, 0, -1]}, 2, "0"),
            ("max_updates", {"schedule": "step", "start": 2, "factor": 2.0, "warmup": 9}, 1, "0"),
        ],
    )
    def test_when_a_number_is_none_that_its_key_allows(self, key, schedule, cycle, number):
        why = f"client_config: '{key}': its schedule gives {number} in cycle {cycle}, and it must be"
        with pytest.raises(ConfigError, match=re.escape(why)):
            check_schedules({key: schedule}, None)
        if cycle > 1:
            check_schedules({key: schedule}, cycle - 1)

    def test_with_the_number_of_cycles_that_it_would_do_for(self):
        halved = {"batch_size": {"schedule": "step", "start": 64, "factor": 0.5}}
        with pytest.raises(ConfigError, match=r"from 1 to 2147483647.*or set num_cycles to 7 or less"):
            check_schedules(halved, 9)
        check_schedules(halved, 7)

    def test_up_to_a_horizon_where_no_number_of_cycles_is_set(self):
        slow = {"lr": {"schedule": "step", "start": 1.0, "factor": 2.0, "every": HORIZON // 100}}
        check_schedules(slow, None)
        with pytest.raises(ConfigError, match="in cycle 12801"):
            check_schedules(slow, 2 * HORIZON)

    @given(st.integers(1, 9), st.integers(-9, 9), st.integers(1, 30), st.integers(0, 30), st.integers(1, 80))
    def test_in_the_first_cycle_that_is_wrong_and_no_other(self, start, end, cycles, warmup, last):
        schedule = {"schedule": "linear", "start": start, "end": end, "cycles": cycles, "warmup": warmup}
        told = [at(cycle, **schedule) for cycle in range(1, last + 1)]
        wrong = next((cycle for cycle, number in enumerate(told, 1) if number < 1), None)
        if wrong is None:
            check_schedules({"max_epochs": schedule}, last)
        else:
            with pytest.raises(ConfigError, match=f"in cycle {wrong},"):
                check_schedules({"max_epochs": schedule}, last)


def test_a_schedule_that_outlasts_the_horizon_keeps_its_last_right_number():
    grows = {"schedule": "step", "start": 1.0, "factor": 2.0}
    assert [at(cycle, **grows) for cycle in (128, 129, 10**6)] == [2.0**127] * 3
    falls = {"batch_size": {"schedule": "step", "start": 8, "factor": 0.5}}
    assert [config_at(falls, cycle)["batch_size"] for cycle in (4, 5, 9)] == [1, 1, 1]
