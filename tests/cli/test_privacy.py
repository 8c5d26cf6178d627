"""`fedplan privacy plan`: what it prints can be hosted, and costs what it says."""

import importlib.util
import json

import pytest

from fedplan.federation.privacy import epsilon_after, most_cycles
from fedplan.wire.config import parse_server_config
from tests.cli.conftest import Invoke

GOAL = ("privacy", "plan", "--epsilon", "8", "--delta", "1e-6", "--cohort", "100", "--rounds", "200")
HAS_EXTRA = importlib.util.find_spec("dp_accounting") is not None
needs_extra = pytest.mark.skipif(not HAS_EXTRA, reason="the extra 'privacy' is not installed")


def test_the_noise_is_enough_for_exactly_these_cycles(fedplan: Invoke) -> None:
    found = json.loads(fedplan(*GOAL, "--json").output)
    assert found["noise_multiplier"] == 9.749
    assert 7.99 < found["epsilon"] <= 8
    assert most_cycles(found["noise_multiplier"], 1e-6, 8) == 200
    config = parse_server_config(found["server_config"])
    assert config.privacy is not None
    assert (config.num_cycles, config.max_diffs, config.privacy.max_epsilon) == (200, 100, 8)


def test_alternatives_keep_the_epsilon_with_fewer_cycles_or_a_larger_cohort(fedplan: Invoke) -> None:
    found = json.loads(fedplan(*GOAL, "--clip", "0.5", "--json").output)
    for other in found["alternatives"]:
        assert epsilon_after(other["rounds"], other["noise_multiplier"], 1e-6) <= 8
        assert other["sigma_of_average"] < found["sigma_of_average"]
    assert [(one["rounds"], one["cohort"]) for one in found["alternatives"]] == [
        (100, 100),
        (50, 100),
        (200, 200),
        (200, 1000),
    ]


def test_it_is_said_in_words(fedplan: Invoke) -> None:
    output = fedplan(*GOAL).output
    assert "noise multiplier 9.749" in output
    assert "nothing is taken off for sampling" in output
    assert "took part in each cycle by a lot" not in output


@needs_extra
def test_what_sampling_would_give_is_told_as_an_assumption(fedplan: Invoke) -> None:
    output = fedplan(*GOAL, "--population", "10000").output
    assert "If each of 10000 workers took part" in output
    assert "do not state this number of a deployment" in output
    found = json.loads(fedplan(*GOAL, "--population", "10000", "--json").output)
    assert 0 < found["if_sampled"] < 1


@pytest.mark.skipif(HAS_EXTRA, reason="the extra 'privacy' is installed")
def test_a_missing_extra_is_named(fedplan: Invoke) -> None:
    result = fedplan(*GOAL, "--population", "10000")
    assert result.exit_code == 1
    assert "pip install 'fedplan[privacy]'" in result.stderr


def test_a_population_below_the_cohort_is_wrong_usage(fedplan: Invoke) -> None:
    assert fedplan(*GOAL, "--population", "99").exit_code == 2


def test_an_epsilon_that_cannot_be_is_an_error(fedplan: Invoke) -> None:
    assert fedplan(*GOAL[:3], "0", *GOAL[4:]).exit_code == 1
