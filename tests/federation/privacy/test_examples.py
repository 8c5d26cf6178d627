"""The ε of DP-SGD on a worker, against dp-accounting called directly and against published figures."""

import math
import sys

import dp_accounting
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant

from fedplan.errors import ConfigError
from fedplan.federation.privacy import DpSgdSteps, ExamplePrivacy

SAMPLED = ExamplePrivacy.of([DpSgdSteps(1.0, 0.01, 1000)])


def directly(
    accountant: PLDAccountant | RdpAccountant, *runs: tuple[float, float, int], delta: float
) -> float:
    for noise, rate, steps in runs:
        gaussian = dp_accounting.GaussianDpEvent(noise)
        accountant.compose(
            dp_accounting.PoissonSampledDpEvent(rate, gaussian) if rate < 1 else gaussian, steps
        )
    return float(accountant.get_epsilon(delta))


def test_sampled_steps_have_the_epsilon_that_the_specification_names() -> None:
    found = SAMPLED.epsilon(1e-5)
    assert found == directly(PLDAccountant(), (1.0, 0.01, 1000), delta=1e-5)
    assert found == pytest.approx(1.83, abs=0.005)
    assert found < directly(RdpAccountant(), (1.0, 0.01, 1000), delta=1e-5) == pytest.approx(2.10, abs=0.005)


def test_without_sampling_nothing_is_taken_off() -> None:
    found = ExamplePrivacy.of([DpSgdSteps(5.0, 1.0, 100)]).epsilon(1e-5)
    assert found == directly(PLDAccountant(), (5.0, 1.0, 100), delta=1e-5) == pytest.approx(10.0, abs=0.01)


def test_cycles_of_other_noise_and_other_rates_add_up() -> None:
    both = SAMPLED + ExamplePrivacy.of([DpSgdSteps(2.0, 0.02, 300)])
    expected = directly(PLDAccountant(), (1.0, 0.01, 1000), (2.0, 0.02, 300), delta=1e-5)
    assert both.epsilon(1e-5) == expected > SAMPLED.epsilon(1e-5)


def test_steps_of_the_same_kind_are_one_run() -> None:
    assert (SAMPLED + SAMPLED).runs == (DpSgdSteps(1.0, 0.01, 2000),)
    assert (SAMPLED + SAMPLED).beyond(SAMPLED) == SAMPLED
    assert SAMPLED.beyond(SAMPLED) == ExamplePrivacy()


def test_no_step_costs_nothing_and_a_step_without_noise_everything() -> None:
    assert ExamplePrivacy().epsilon(1e-5) == 0
    assert ExamplePrivacy.of([DpSgdSteps(0.0, 0.01, 1)]).epsilon(1e-5) == math.inf


def test_what_it_was_computed_from_is_said_in_words() -> None:
    both = SAMPLED + ExamplePrivacy.of([DpSgdSteps(2.0, 1.0, 1)])
    assert str(both) == (
        "1000 steps with a noise multiplier of 1 and a sampling rate of 0.01; "
        "1 step with a noise multiplier of 2 and no sampling"
    )
    assert str(ExamplePrivacy()) == "no step"


def test_it_is_read_as_it_was_written() -> None:
    assert ExamplePrivacy.from_json(SAMPLED.to_json()) == SAMPLED


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"runs": [{}]}', '{"runs": [{"noise_multiplier": 1, "sampling_rate": 2, "steps": 1}]}'],
)
def test_anything_else_is_not_read(text: str) -> None:
    with pytest.raises(ValueError, match=r"steps of DP-SGD|Expecting value"):
        ExamplePrivacy.from_json(text)


@pytest.mark.parametrize("delta", [0, 1, -1e-5, float("nan"), "1e-5"])
def test_delta_must_be_a_chance(delta: float) -> None:
    with pytest.raises(ConfigError, match="δ is a number above 0 and below 1"):
        SAMPLED.epsilon(delta)


def test_without_the_extra_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(ConfigError, match=r"fedplan\[privacy\].*1000 steps"):
        SAMPLED.epsilon(1e-5)
