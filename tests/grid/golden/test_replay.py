"""The replayer finds what it is there to find."""

import pytest

from .replay import ACCEPTED, REJECTED, New, match

GOOD = {
    "status": "accepted",
    "model": "m",
    "version": "1.0",
    "request_key": "k",
    "plans": {"training_plan": 1},
    "protocols": {"handshake": 2},
    "client_config": {"name": "m", "version": "1.0", "batch_size": 4, "lr": 0.1, "max_updates": 1},
    "model_id": 3,
}


def test_what_is_new_is_known_afterwards():
    known = {"model": "m"}
    match(ACCEPTED, GOOD, known)
    assert known == {"model": "m", "request_key": "k", "plan_id": 1, "protocol_id": 2, "model_id": 3}


@pytest.mark.parametrize(
    "wrong",
    [
        GOOD | {"more": 1},
        {key: value for key, value in GOOD.items() if key != "protocols"},
        GOOD | {"model_id": "3"},
        GOOD | {"model_id": True},
        GOOD | {"model_id": None},
        GOOD | {"model": "n"},
        GOOD | {"plans": {"training_plan": 1.0}},
        GOOD | {"client_config": GOOD["client_config"] | {"max_updates": 1.0}},
        GOOD | {"client_config": GOOD["client_config"] | {"lr": "0.1"}},
    ],
)
def test_what_differs_is_found(wrong):
    with pytest.raises(AssertionError):
        match(ACCEPTED, wrong, {"model": "m"})


@pytest.mark.parametrize("wrong", ["1", 1.0, None, True, "0:00:01"])
def test_only_whole_seconds_are_whole_seconds(wrong):
    with pytest.raises(AssertionError):
        match(REJECTED, {"status": "rejected", "timeout": wrong}, {})
    match({"timeout": New("t", int)}, {"timeout": 1}, {})
