"""The short form of fuzzing: sound and changed inputs of everything that reads what others send."""

import random
import time

import pytest

from fedplan.errors import WireError
from tests.fuzz.changes import bytes_of, changed_bytes, changed_json, changed_message, records_of
from tests.fuzz.decoders import decoders
from tests.fuzz.peers import GridUnderTest, peers
from tests.fuzz.target import FuzzFaultError, Target, attempt
from tests.grid.models import training_plan

TARGETS = {target.name: target for target in decoders()}
_INPUTS = 60


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_of_a_decoder_raises_an_error_that_is_not_ours(name):
    try_some(TARGETS[name])


@pytest.fixture
def grid():
    made = GridUnderTest()
    yield made
    made.close()


@pytest.mark.parametrize("place", [0, 1], ids=["configurations", "calls"])
def test_no_input_of_a_peer_is_answered_with_a_fault_of_the_grid(place, grid):
    try_some(peers(grid)[place])


def try_some(target):
    dice = random.Random(target.name)
    inputs = [*target.samples[:_INPUTS]]
    inputs += [target.change(dice.choice(target.samples), target.samples, dice) for _ in range(_INPUTS)]
    for data in inputs:
        attempt(target, data)


def target_that(run):
    return Target("made", run, (b"",), changed_bytes)


def test_an_error_that_is_not_ours_is_a_fault():
    def fail(data):
        raise ValueError(data)

    with pytest.raises(ValueError, match="x"):
        attempt(target_that(fail), b"x")


def test_a_refusal_is_none():
    def refuse(data):
        raise WireError("no")

    attempt(target_that(refuse), b"x")


def test_what_takes_long_is_a_fault(monkeypatch):
    monkeypatch.setattr("tests.fuzz.target.MOST_SECONDS", 0.01)

    def compute(_data):
        until = time.process_time() + 0.03
        while time.process_time() < until:
            pass

    with pytest.raises(FuzzFaultError, match=r"0\.0\d s of made"):
        attempt(target_that(compute), b"x")


def test_what_takes_much_memory_is_a_fault(monkeypatch):
    peaks = iter([0, 2**30])
    monkeypatch.setattr("tests.fuzz.target.peak_bytes", lambda: next(peaks))
    with pytest.raises(FuzzFaultError, match="1024 MiB of made"):
        attempt(target_that(lambda _data: None), b"x")


def test_an_answer_of_500_is_a_fault(monkeypatch, grid):
    async def broken(*_arguments):
        raise RuntimeError("a fault of the grid")

    grid.ask(b'{"type": "socket-ping"}')
    monkeypatch.setattr("fedplan.grid.web.websocket.admit", broken)
    with pytest.raises(FuzzFaultError, match="a request failed"):
        grid.ask(b'{"type": "model-centric/authenticate", "data": {"model_name": "m"}}')


def test_a_message_that_is_taken_apart_and_put_together_is_the_same():
    records = records_of(training_plan())
    assert records
    assert bytes_of(records) == training_plan()


@pytest.mark.parametrize(
    ("change", "sample"),
    [(changed_message, training_plan()), (changed_json, b'{"a": [1, "b"], "c": {"d": 2}}')],
)
def test_the_same_seed_makes_the_same_inputs_and_many_different_ones(change, sample):
    def made():
        dice = random.Random(5)
        return [change(sample, (sample,), dice) for _ in range(100)]

    assert made() == made()
    assert len(set(made())) > 70


def test_most_changes_of_a_message_keep_it_a_message():
    dice = random.Random(6)
    changed = [changed_message(training_plan(), (training_plan(),), dice) for _ in range(100)]
    assert sum(records_of(data) is not None for data in changed) > 50
