"""The constants of DP-SGD, and how they travel with a Plan."""

import dataclasses
from typing import Any

import pytest

from fedplan.errors import ConfigError
from fedplan.plan import DpSgd

DP = DpSgd(max_grad_norm=0.5, noise_multiplier=1.1, expected_batch_size=64)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_grad_norm", 0, "max_grad_norm is a finite number above 0, and it is 0"),
        ("max_grad_norm", float("inf"), "above 0, and it is inf"),
        ("noise_multiplier", -0.1, "noise_multiplier is a finite number from 0 up, and it is -0.1"),
        ("noise_multiplier", "1", "from 0 up, and it is '1'"),
        ("expected_batch_size", 0, "expected_batch_size is a whole number from 1 up, and it is 0"),
        ("expected_batch_size", 6.4, "whole number from 1 up, and it is 6.4"),
    ],
)
def test_constants_that_mean_nothing_are_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(DP, **{name: value})


@pytest.mark.parametrize("noise", [0, 1.1, 1e-7, 12345.678901234567])
def test_the_tag_says_the_constants_to_the_last_bit(noise: float) -> None:
    dp = dataclasses.replace(DP, noise_multiplier=noise)
    assert DpSgd.from_tags(["other", dp.tag]) == dp


@pytest.mark.parametrize(
    "tag",
    [
        "#fedplan-dp-sgd:1.0:1.0",
        "#fedplan-dp-sgd:0.0:1.0:64",
        "#fedplan-dp-sgd:nan:1.0:64",
        "#fedplan-dp-sgd:1:1:-1",
    ],
)
def test_a_tag_that_says_no_constants_says_nothing(tag: str) -> None:
    assert DpSgd.from_tags([tag]) is None


def test_it_says_in_words_what_is_done() -> None:
    assert str(DP) == (
        "DP-SGD: each example's gradient clipped to the norm 0.5, noise of 1.1 times that, divided by 64"
    )
