"""Virtual time: over-selection, deadlines, lapses and asynchronous training, as a grid has them."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fedplan
from fedplan import Availability
from fedplan.errors import ConfigError, StuckCycleError
from fedplan.federation import Strategy, Task, round_of, strategy_of
from fedplan.plan import RandomStream
from fedplan.simulation.chance import Chance
from fedplan.simulation.clock import Clock, Cycle, HeldPlace
from tests.federation.made import setting
from tests.simulation.cases import same_bits, simulate

DAY = 86_400.0


def strategy(**server: Any) -> Strategy:
    return strategy_of(setting(server))


def clock_of(
    availability: Availability, *, population: int = 100, cohort: int = 10, seed: int = 0, **server: Any
) -> Clock:
    made = strategy(**server)
    return Clock(made, round_of(made), Chance(RandomStream(seed)), availability, population, cohort)


def play(clock: Clock, number: int = 1, checkpoint: int | None = None) -> tuple[Cycle, list[HeldPlace]]:
    """A cycle whose reports are all taken."""
    cycle = clock.open(number, Task.TRAINING, checkpoint or number)
    come: list[HeldPlace] = []
    while more := clock.reports(cycle):
        come += more
    clock.close(cycle)
    return cycle, come


def test_a_client_takes_part_so_often_in_a_day_and_whose_place_lapsed_has_not() -> None:
    clock = clock_of(Availability(seconds=60), population=4, cohort=2, most_cycles_per_day=1, max_diffs=2)
    first, second = (play(clock, number)[1] for number in (1, 2))
    assert {place.client for place in (*first, *second)} == {0, 1, 2, 3}
    with pytest.raises(StuckCycleError, match="no other client may have a place"):
        play(clock, 3)
    other = clock_of(Availability(seconds=60), population=4, cohort=2, most_cycles_per_day=1, max_diffs=2)
    other.restore(json.loads(json.dumps(clock.to_json())))
    with pytest.raises(StuckCycleError, match="no other client may have a place"):
        play(other, 3)
    other.now += 86_401.0
    assert len(play(other, 4)[1]) == 2


class TestHowLongClientsTake:
    def test_has_the_median_and_the_spread_that_were_told(self) -> None:
        chance = Chance(RandomStream(0))
        slow = Availability(seconds=60, spread=0.5, jitter=0.2)
        taken = np.log([slow.takes(chance, client, 1) / 60 for client in range(4000)])
        assert abs(np.median(taken)) < 0.03
        assert abs(taken.std() - np.hypot(0.5, 0.2)) < 0.03

    def test_is_mostly_a_clients_own(self) -> None:
        chance = Chance(RandomStream(0))
        slow = Availability(seconds=60, spread=1.0, jitter=0.1)
        one, other = (
            np.log([slow.takes(chance, client, cycle) for client in range(500)]) for cycle in (1, 2)
        )
        assert np.corrcoef(one, other)[0, 1] > 0.97
        assert (one != other).all()

    def test_some_never_report(self) -> None:
        chance = Chance(RandomStream(0))
        gone = [Availability(dropout=0.3).is_gone(chance, client, 1, 0) for client in range(3000)]
        assert abs(np.mean(gone) - 0.3) < 0.04

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"dropout": 1.0}, "dropout is 1.0; it must be at least 0 and below 1"),
            ({"seconds": -1.0}, "seconds is -1.0"),
            ({"spread": float("nan")}, "spread is nan"),
        ],
    )
    def test_numbers_that_mean_nothing_are_refused(self, wrong: dict[str, float], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            Availability(**wrong)


class TestACycle:
    def test_waits_for_all_of_its_cohort(self) -> None:
        clock = clock_of(Availability(seconds=60, spread=0.5))
        cycle, come = play(clock)
        assert (cycle.reported, cycle.late, cycle.gone) == (10, 0, 0)
        assert clock.now == max(place.reports_at or 0 for place in come)

    def test_ends_with_the_fastest_that_it_needs(self) -> None:
        clock = clock_of(Availability(seconds=60, spread=0.5), cohort=15, min_diffs=10, max_diffs=10)
        _, all_of_them = play(clock_of(Availability(seconds=60, spread=0.5), cohort=15))
        cycle, come = play(clock)
        times = sorted(place.reports_at or 0 for place in all_of_them)
        assert sorted(place.reports_at or 0 for place in come) == times[:10]
        assert (clock.now, cycle.late) == (times[9], 5)

    def test_tells_reports_in_the_order_in_which_places_were_given(self) -> None:
        _, come = play(clock_of(Availability(seconds=60, spread=0.5)))
        assert [place.number for place in come] == list(range(1, 11))

    def test_gives_the_places_of_those_who_are_gone_to_others_when_they_lapse(self) -> None:
        clock = clock_of(Availability(dropout=0.4, seconds=60), min_diffs=10, max_diffs=10)
        cycle, come = play(clock)
        assert (cycle.reported, cycle.gone) == (10, len(cycle.taken) - 10)
        assert cycle.gone > 0
        assert (clock.now % DAY, clock.now >= DAY) == (60.0, True)
        assert len({place.client for place in come}) == 10

    def test_ends_at_its_deadline_with_what_there_is(self) -> None:
        clock = clock_of(Availability(seconds=60, spread=1.0), min_diffs=3, cycle_length=60.0)
        cycle, come = play(clock)
        assert clock.now == 60.0
        assert 3 <= cycle.reported == len(come) < 10
        assert cycle.late == 10 - cycle.reported

    def test_is_extended_with_too_few_and_others_have_the_places(self) -> None:
        clock = clock_of(Availability(seconds=100, spread=0.3), min_diffs=3, cycle_length=40.0)
        cycle, _ = play(clock)
        assert cycle.extensions >= 1
        assert clock.now == 40.0 * (cycle.extensions + 1)
        assert len(cycle.taken) > 10
        assert cycle.reported >= 3

    def test_that_cannot_get_its_reports_ends_with_an_error(self) -> None:
        clock = clock_of(Availability(seconds=1e9), min_diffs=3, cycle_length=1.0)
        with pytest.raises(ConfigError, match="cycle 1 was extended 1000 times and has 0 reports"):
            play(clock)

    def test_asks_a_client_again_that_lost_its_place_when_there_is_nobody_else(self) -> None:
        clock = clock_of(Availability(dropout=0.5), population=10, min_diffs=10, max_diffs=10)
        cycle, come = play(clock)
        assert cycle.reported == 10
        assert max(cycle.taken.values()) > 1
        assert len({place.client for place in come}) == 10

    def test_does_not_ask_a_client_that_is_slow_while_it_is_still_at_it(self) -> None:
        for server in ({"place_timeout": 10.0}, {"cycle_length": 10.0}):
            clock = clock_of(Availability(seconds=100, spread=0.5), population=12, min_diffs=10, **server)
            cycle, come = play(clock)
            assert len(come) == cycle.reported >= 10
            assert len({place.client for place in come}) == len(come)
            assert max(cycle.taken.values()) == 1
            assert cycle.gone == 0

    def test_begins_when_the_one_before_has_ended(self) -> None:
        clock = clock_of(Availability(seconds=60))
        assert [play(clock, number)[0].opened for number in (1, 2, 3)] == [0.0, 60.0, 120.0]

    def test_a_refused_report_counts_for_nothing(self) -> None:
        clock = clock_of(Availability(), min_diffs=10, max_diffs=10)
        cycle = clock.open(1, Task.TRAINING, 1)
        first = clock.reports(cycle)
        clock.refuse(cycle, first[3], "it holds NaN")
        (other,) = clock.reports(cycle)
        assert other.client not in {place.client for place in first}
        assert clock.reports(cycle) == []
        assert cycle.reported == 10


class TestAsynchronousTraining:
    def clock(self, **options: Any) -> Clock:
        slow = Availability(seconds=60, spread=0.8, jitter=0.3)
        return clock_of(slow, strategy={"name": "fedbuff", "k": 4, "staleness": 3}, **options)

    def test_makes_a_checkpoint_of_each_k_reports_whoever_they_are_from(self) -> None:
        clock = self.clock()
        played = [play(clock, number) for number in range(1, 8)]
        assert [cycle.reported for cycle, _ in played] == [4] * 7
        stale = [cycle.checkpoint - place.checkpoint for cycle, come in played for place in come]
        assert 0 < max(stale) <= 3
        assert min(stale) == 0

    def test_always_has_as_many_in_training_as_the_cohort(self) -> None:
        clock = self.clock()
        for number in range(1, 6):
            play(clock, number)
            clock_after = len(clock.waiting)
            assert clock_after == 9  # the last one that reported asks in the next cycle
        clock.open(6, Task.TRAINING, 6)
        assert len(clock.waiting) == 10
        assert len({place.client for place in clock.waiting}) == 10

    def test_discards_what_is_too_late(self) -> None:
        clock = clock_of(
            Availability(seconds=60, spread=1.5), strategy={"name": "fedbuff", "k": 2, "staleness": 1}
        )
        played = [play(clock, number) for number in range(1, 20)]
        assert sum(cycle.late for cycle, _ in played) > 0
        assert all(cycle.checkpoint - place.checkpoint <= 1 for cycle, come in played for place in come)

    def test_has_no_more_places_than_the_server_config_gives(self) -> None:
        clock = self.clock(max_workers=6)
        cycle, _ = play(clock)
        assert cycle.occupied <= 6

    def test_a_stale_report_counts_less(self) -> None:
        slow = Availability(seconds=60, spread=0.8)
        server = {"strategy": {"name": "fedbuff", "k": 4}}
        stale = simulate(server=server, cohort=8, rounds=4, availability=slow)
        fresh = simulate(server={"min_diffs": 4, "max_diffs": 4}, cohort=8, rounds=4, availability=slow)
        assert not same_bits(stale.model, fresh.model)
        assert [row.reports for row in stale.history] == [4] * 4


class TestTheHistory:
    def test_has_the_virtual_times(self) -> None:
        server = {"min_diffs": 3, "cycle_length": 90.0}
        result = simulate(server=server, rounds=3, availability=Availability(dropout=0.3, seconds=10))
        assert [(row.closed_at - row.opened_at).total_seconds() for row in result.history] == [90.0] * 3
        assert sum(row.gone for row in result.history) > 0
        assert all(row.reports + row.gone == 10 for row in result.history)

    def test_of_a_run_with_delays_has_the_checkpoints_of_one_without(self) -> None:
        slow = fedplan.Availability(seconds=60, spread=1.0)
        assert same_bits(simulate(rounds=3, availability=slow).model, simulate(rounds=3).model)


@settings(max_examples=300, deadline=None)
@given(
    availability=st.builds(
        Availability,
        dropout=st.sampled_from([0.0, 0.3, 0.8]),
        seconds=st.sampled_from([0.0, 1.0, 60.0]),
        spread=st.sampled_from([0.0, 1.0]),
        jitter=st.sampled_from([0.0, 0.5]),
    ),
    server=st.sampled_from(
        [
            {},
            {"min_diffs": 3, "max_diffs": 5},
            {"min_diffs": 3},
            {"min_diffs": 2, "cycle_length": 30.0},
            {"max_diffs": 4, "cycle_length": 500.0},
            {"min_diffs": 3, "place_timeout": 20.0},
            {"do_not_reuse_workers_until_cycle": 2, "max_workers": 7},
            {"strategy": {"name": "fedbuff", "k": 3, "staleness": 2}},
            {"strategy": {"name": "fedbuff", "k": 3}, "place_timeout": 30.0},
        ]
    ),
    population=st.integers(16, 40),
    cohort=st.integers(5, 7),
    seed=st.integers(0, 1000),
    refusals=st.sets(st.integers(1, 60)),
)
def test_whatever_happens_the_rules_of_a_cycle_hold(
    availability: Availability,
    server: dict[str, Any],
    population: int,
    cohort: int,
    seed: int,
    refusals: set[int],
) -> None:
    if "do_not_reuse_workers_until_cycle" in server:  # otherwise it may be that nobody is left
        assume(availability.dropout == 0 and len(refusals) < 3)
    clock = clock_of(availability, population=population, cohort=cohort, seed=seed, **server)
    stage = round_of(strategy(**server)).reporting
    for number in range(1, 5):
        started = clock.now
        cycle = clock.open(number, Task.TRAINING, number)
        taken: list[HeldPlace] = []
        while come := clock.reports(cycle):
            for place in come:
                if place.number in refusals:
                    clock.refuse(cycle, place, "it holds NaN")
                else:
                    taken.append(place)
        at_it = [place.client for place in clock.waiting]
        clock.close(cycle)
        assert len(taken) == cycle.reported >= max(1, stage.needed)
        assert stage.limit is None or cycle.reported <= stage.limit
        assert cycle.occupied >= cycle.reported
        assert clock.now >= started
        own = [place.client for place in taken if place.cycle == number]
        assert len(own) == len(set(own))
        assert len(at_it) == len(set(at_it))
        assert not set(own) & set(at_it)
        assert all(place.reports_at is not None and place.reports_at <= clock.now for place in taken)
