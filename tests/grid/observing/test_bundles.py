"""Events that may come very often: what is written of them is bounded, and tells of all."""

import secrets

import pytest

from fedplan.grid.observing.bundles import Bundles
from fedplan.grid.observing.correlation import Actor, Correlation, answering
from fedplan.grid.observing.events import MOST_TOLD, Event, Kind
from tests.grid.clock import Clock


def refusal(worker=None, cause="the cycle is full", **more):
    actor = None if worker is None else Actor("worker", worker)
    return Event(Kind.REFUSED, cause, "m", "1.0", 1, actor, **more)


@pytest.fixture
def clock():
    return Clock(0.0)


@pytest.fixture
def bundles(clock):
    return Bundles(clock, 1.0)


def test_the_first_is_written_after_a_moment_as_it_came(bundles, clock):
    with answering(Correlation("id", "127.0.0.9")):
        bundles.add(refusal("w"), "full")
    assert bundles.take() == []
    clock.now = 1.0
    (event,) = bundles.take()
    assert (event.cause, event.actor, event.details) == ("the cycle is full", Actor("worker", "w"), {})
    assert (event.request.id, event.request.address) == ("id", "127.0.0.9")
    assert bundles.take() == []


def test_those_that_are_alike_are_one(bundles, clock):
    for number in range(50):
        with answering(Correlation(f"{number}", f"127.0.0.{number % 3}")):
            bundles.add(refusal(f"{number}"), "full")
        clock.now += 0.1
    (event,) = bundles.take()
    assert event.actor == Actor("several")
    assert event.details == {
        "times": 50,
        "seconds": 5.0,
        "workers": [f"{number}" for number in range(MOST_TOLD)],
        "addresses": ["127.0.0.0", "127.0.0.1", "127.0.0.2"],
    }
    assert event.request.id == "0"


def test_kinds_models_cycles_and_causes_are_told_apart(bundles, clock):
    for event, alike in (
        (refusal(), "a"),
        (refusal(), "b"),
        (Event(Kind.TOKEN_USED, "x", "m", "1.0", 1), "a"),
        (Event(Kind.REFUSED, "x", "m", "1.0", 2), "a"),
        (Event(Kind.REFUSED, "x", "n", "1.0", 1), "a"),
    ):
        bundles.add(event, alike)
    clock.now = 1.0
    assert len(bundles.take()) == 5


def test_a_flood_of_a_day_makes_few_rows_and_none_of_it_is_left_out(bundles, clock):
    rows = []
    while clock.now < 86_400:
        bundles.add(refusal(), "full")
        rows += bundles.take()
        clock.now += 0.25
    rows += bundles.take(everything=True)
    assert len(rows) < 86_400 / 300 + 15
    assert sum(row.details.get("times", 1) for row in rows) == 4 * 86_400


def test_a_flood_with_pauses_makes_no_more_of_them(bundles, clock):
    rows = []
    while clock.now < 86_400:
        bundles.add(refusal(), "full")
        rows += bundles.take()
        clock.now += 20
    assert len(rows) < 86_400 / 300 + 15


def test_ever_new_causes_make_no_more_rows_either(bundles, clock):
    rows = []
    for _ in range(5000):
        bundles.add(refusal(cause=secrets.token_hex(4)), secrets.token_hex(4))
    clock.now = 1.0
    rows = bundles.take()
    assert len(rows) == 201
    (others,) = [row for row in rows if "other causes" in row.cause]
    assert sum(row.details.get("times", 1) for row in rows) == 5000
    assert others.model is None


def test_a_cause_that_is_quiet_makes_room(bundles, clock):
    for number in range(200):
        bundles.add(refusal(cause=f"{number}"), number)
    clock.now = 1.0
    bundles.take()
    bundles.add(refusal(cause="new"), "new")
    clock.now = 2.0
    assert [event.cause for event in bundles.take()] == ["new"]


def test_what_is_left_is_written_at_the_end(bundles):
    bundles.add(refusal(), "full")
    assert len(bundles.take(everything=True)) == 1


def test_the_latest_refusal_of_a_worker_is_remembered(bundles, clock):
    bundles.add(refusal("w"), "full")
    clock.now = 5.0
    with answering(Correlation("id", None, Actor("worker", "w"))):
        bundles.add(refusal(cause="too slow"), "slow")
    told = bundles.last_refusal("w")
    assert (told.at, told.event.cause) == (5.0, "too slow")
    assert bundles.last_refusal("v") is None


def test_a_cause_is_one_short_line():
    event = Event(Kind.DECLINED, "a\nb\x00" + "x" * 1000)
    assert event.cause.startswith("a\\nb\\x00xxx")
    assert len(event.cause) == 501
