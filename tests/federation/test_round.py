"""The decisions about cycles, as a specification, and their invariants under any course of events."""

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fedplan.federation import Round, Stage, gone_since, is_overdue, round_of, strategy_of
from fedplan.federation.admission import (
    Asker,
    Refusal,
    Rejection,
    admission,
    keeps_waiting_list,
    needs_speed_test,
    waits_until,
)
from tests.federation.made import setting

NOW = 1000.0


@dataclasses.dataclass(frozen=True)
class Cycle:
    number: int = 1
    is_open: bool = True
    is_over: bool = False
    occupied: int = 0
    reported: int = 0
    deadline: float | None = None


@dataclasses.dataclass(frozen=True)
class Place:
    reported: bool = False
    released: bool = False


def config(**keys):
    return setting(keys).server


def round_with(**keys) -> Round:
    return round_of(strategy_of(setting(keys)))


def stage(**keys) -> Stage:
    return round_with(**keys).reporting


def ask(server, of=None, draw=0.0, now=NOW, **asker):
    return admission(
        config(**server), round_with(**server), of or Cycle(), Asker(**asker), now, draw=draw, retry=5.0
    )


def why(*args, **kwargs):
    rejection = ask(*args, **kwargs)
    return None if rejection is None else rejection.why


def test_a_worker_is_gone_when_it_has_not_reported_for_the_place_timeout():
    assert gone_since(config(place_timeout=60), NOW) == NOW - 60
    assert gone_since(config(), NOW) == NOW - 86_400
    assert gone_since(config(cycle_length=5), NOW) == NOW - 86_400


class TestWhomACycleTakes:
    def test_without_any_rule_everybody(self):
        assert ask({}, Cycle(occupied=1000)) is None

    def test_nobody_whose_client_cannot_load_the_plans_and_it_need_not_come_again(self):
        assert ask({}, able=False) == Rejection(Refusal.UNABLE, None)
        assert not ask({"min_workers": 3}, able=False).waits

    def test_nobody_more_than_max_workers(self):
        assert why({"max_workers": 2}, Cycle(occupied=1)) is None
        assert why({"max_workers": 2}, Cycle(occupied=2)) is Refusal.FULL

    def test_nobody_before_min_workers_have_asked(self):
        assert why({"min_workers": 3}, waiting=2) is Refusal.GATHERING
        assert why({"min_workers": 3}, waiting=3) is None

    def test_whoever_asks_once_min_workers_have_asked(self):
        assert why({"min_workers": 3}, Cycle(occupied=1), waiting=1) is None

    def test_those_who_come_first_when_it_iterates(self):
        server = {"max_workers": 2, "pool_selection": "iterate"}
        assert why(server, waiting=100, draw=0.999) is None

    def test_by_lot_when_more_are_waiting_than_places_are_free(self):
        server = {"max_workers": 4, "pool_selection": "random"}
        half_full = Cycle(occupied=2)
        assert why(server, half_full, waiting=2, draw=0.999) is None
        assert why(server, half_full, waiting=8, draw=0.2499) is None
        assert why(server, half_full, waiting=8, draw=0.25) is Refusal.LOT

    def test_no_worker_twice(self):
        training = Place()
        assert why({}, place=training) is Refusal.TRAINING
        assert why({}, place=dataclasses.replace(training, reported=True)) is Refusal.REPORTED

    def test_again_a_worker_that_lost_its_place_to_time(self):
        assert why({}, place=Place(released=True)) is None

    @pytest.mark.parametrize(("number", "taken"), [(3, False), (4, False), (5, True), (9, True)])
    def test_a_worker_that_took_part_only_so_many_cycles_later(self, number, taken):
        server = {"do_not_reuse_workers_until_cycle": 3}
        assert (why(server, Cycle(number=number), last_cycle=2) is None) == taken

    @pytest.mark.parametrize("key", ["download", "upload"])
    @pytest.mark.parametrize(
        ("speed", "taken"), [(None, False), (-1, False), (9.9, False), (10, True), (1e6, True), (0, True)]
    )
    def test_only_connections_of_the_minimum_speed(self, key, speed, taken):
        assert (why({f"minimum_{key}_speed": 10}, **{key: speed}) is None) == taken

    def test_unmeasured_speeds_where_none_is_asked_for(self):
        assert why({"minimum_upload_speed": 10}, upload=20, download=None) is None

    def test_nobody_when_it_is_closing_or_closed(self):
        closed = Cycle(is_open=False)
        assert why({}, closed) is Refusal.CLOSING
        assert why({"num_cycles": 1}, closed) is Refusal.FINISHED
        assert why({"num_cycles": 2}, closed) is Refusal.CLOSING
        assert why({}, Cycle(is_open=False, is_over=True)) is Refusal.FINISHED

    def test_nobody_when_its_time_is_over(self):
        assert why({"cycle_length": 10}, Cycle(deadline=NOW)) is Refusal.CLOSING


class TestWhenARejectedWorkerMayAskAgain:
    def test_never_when_the_model_is_finished(self):
        assert ask({"num_cycles": 1}, Cycle(is_open=False)).timeout is None

    def test_never_when_it_has_reported_in_the_last_cycle(self):
        place = Place(reported=True)
        assert ask({"num_cycles": 1}, place=place).timeout is None
        assert ask({"num_cycles": 2}, place=place).timeout == 5

    def test_never_when_it_may_take_part_only_after_the_last_cycle(self):
        server = {"num_cycles": 4, "do_not_reuse_workers_until_cycle": 3}
        assert ask(server, Cycle(number=3), last_cycle=1).timeout == 5
        assert ask(server, Cycle(number=3), last_cycle=2).timeout is None

    def test_when_time_ends_the_cycle_if_only_time_can(self):
        place = Place()
        assert ask({"cycle_length": 60}, Cycle(deadline=NOW + 33.2), place=place).timeout == 34

    def test_soon_if_reports_can_end_the_cycle_too(self):
        of = Cycle(deadline=NOW + 3600, occupied=2)
        assert ask({"cycle_length": 3600, "max_workers": 2}, of).timeout == 5
        assert ask({"cycle_length": 3600, "max_workers": 2}, of, now=NOW + 3598.5).timeout == 2

    def test_at_once_when_the_cycle_is_closing(self):
        assert ask({}, Cycle(is_open=False)).timeout == 1

    def test_it_counts_as_waiting_until_then_and_some_time_longer(self):
        rejection = Rejection(Refusal.FULL, 5)
        assert rejection.waits
        assert waits_until(rejection, NOW) > NOW + 5

    @pytest.mark.parametrize("reason", [Refusal.TRAINING, Refusal.RESTING, Refusal.TOO_SLOW])
    def test_it_does_not_count_as_waiting_when_it_could_not_be_taken(self, reason):
        assert not Rejection(reason, 5).waits


class TestWhenACycleCloses:
    @pytest.mark.parametrize(
        ("server", "limit"),
        [({}, None), ({"max_diffs": 3}, 3), ({"max_workers": 4}, 4), ({"max_diffs": 5, "max_workers": 4}, 4)],
    )
    def test_at_max_diffs_or_when_max_workers_have_reported(self, server, limit):
        assert stage(**server).limit == limit
        if limit is not None:
            assert stage(**server).is_complete(Cycle(occupied=limit, reported=limit), NOW)

    def test_not_before_max_diffs_when_nothing_else_closes_it(self):
        for reported in (1, 2):
            of = Cycle(occupied=reported, reported=reported)
            assert not stage(max_diffs=3).is_complete(of, NOW)
            assert not stage(max_diffs=3, min_diffs=1).is_complete(of, NOW)

    @pytest.mark.parametrize(("reported", "closes"), [(0, False), (1, False), (2, True), (9, True)])
    def test_by_time_with_at_least_min_diffs(self, reported, closes):
        server = stage(cycle_length=60, min_diffs=2)
        of = Cycle(deadline=NOW, reported=reported, occupied=10)
        assert server.is_complete(of, NOW) == closes
        assert not server.is_complete(of, NOW - 0.001)

    def test_by_time_with_one_diff_when_no_minimum_is_set(self):
        server = stage(cycle_length=60, min_workers=5)
        assert server.is_complete(Cycle(deadline=NOW, reported=1, occupied=5), NOW)
        assert not server.is_complete(Cycle(deadline=NOW, occupied=5), NOW)

    def test_at_min_diffs_when_nothing_else_closes_it(self):
        assert not stage(min_diffs=2).is_complete(Cycle(reported=1, occupied=1), NOW)
        assert stage(min_diffs=2).is_complete(Cycle(reported=2, occupied=5), NOW)

    def test_when_nobody_is_training_any_more_where_no_number_is_set(self):
        assert not stage().is_complete(Cycle(reported=1, occupied=2), NOW)
        assert stage().is_complete(Cycle(reported=2, occupied=2), NOW)
        assert not stage(min_workers=3).is_complete(Cycle(reported=2, occupied=2), NOW)

    def test_never_without_a_report(self):
        assert not stage().is_complete(Cycle(), NOW)

    def test_its_time_is_over_at_the_deadline(self):
        assert stage(cycle_length=60).deadline(NOW) == NOW + 60
        assert stage().deadline(NOW) is None
        assert is_overdue(Cycle(deadline=NOW), NOW)
        assert not is_overdue(Cycle(deadline=NOW), NOW - 1)
        assert not is_overdue(Cycle(), NOW)
        assert not is_overdue(Cycle(deadline=NOW, is_open=False), NOW)


def test_a_strategy_that_counts_reports_is_the_only_threshold():
    fedbuff = stage(strategy={"name": "fedbuff", "k": 3}, max_workers=2)
    assert (fedbuff.needed, fedbuff.limit, fedbuff.length) == (3, 3, None)
    assert not fedbuff.is_complete(Cycle(reported=2, occupied=2), NOW)
    assert fedbuff.is_complete(Cycle(reported=3, occupied=9), NOW)


def test_a_round_may_have_several_stages_with_a_deadline_each():
    """As secure aggregation has: keys, shares, masked reports, unmasking."""
    keys, reports = Stage("keys", 3, limit=5, length=60.0), Stage("reports", 2, length=600.0)
    several = Round((keys, reports), cycles=1)
    assert several.reporting is reports
    assert keys.deadline(NOW) == NOW + 60
    assert keys.is_complete(Cycle(reported=3, occupied=4, deadline=NOW), NOW)
    assert not keys.is_complete(Cycle(reported=3, occupied=4, deadline=NOW + 1), NOW)
    assert keys.is_complete(Cycle(reported=5, occupied=5, deadline=NOW + 1), NOW)
    assert not keys.is_complete(Cycle(reported=2, occupied=2, deadline=NOW), NOW)


def test_a_model_has_num_cycles_cycles():
    assert round_with(num_cycles=3).takes_place(3)
    assert not round_with(num_cycles=3).takes_place(4)
    assert round_with().takes_place(10**6)


def test_a_speed_test_is_asked_for_only_where_a_minimum_is_set():
    assert not needs_speed_test(config())
    assert needs_speed_test(config(minimum_upload_speed=1))
    assert needs_speed_test(config(minimum_download_speed=1))


def test_who_waits_is_noted_only_where_it_matters():
    assert not keeps_waiting_list(config())
    assert not keeps_waiting_list(config(max_workers=3, pool_selection="iterate"))
    assert keeps_waiting_list(config(max_workers=3))
    assert keeps_waiting_list(config(min_workers=3, pool_selection="iterate"))


counts = st.none() | st.integers(1, 5)
configs = st.builds(
    dict,
    min_workers=counts,
    max_workers=counts,
    pool_selection=st.sampled_from(["random", "iterate"]),
    num_cycles=counts,
    do_not_reuse_workers_until_cycle=counts,
    cycle_length=st.none() | st.floats(0.1, 1e5),
    min_diffs=counts,
    max_diffs=counts,
    minimum_upload_speed=st.none() | st.floats(0, 100),
)


def valid(keys):
    pairs = (("min_workers", "max_workers"), ("min_diffs", "max_diffs"), ("min_diffs", "max_workers"))
    return all(keys[a] is None or keys[b] is None or keys[a] <= keys[b] for a, b in pairs)


@given(
    configs.filter(valid),
    st.integers(1, 6),
    st.integers(0, 8),
    st.floats(0, 2e5),
    st.integers(1, 20),
    st.floats(0, 1, exclude_max=True),
    st.none() | st.integers(1, 5),
    st.booleans(),
)
def test_a_rejection_says_how_many_whole_seconds_to_wait_or_that_waiting_is_useless(
    keys, number, occupied, later, waiting, draw, last_cycle, is_open
):
    server, round = config(**keys), round_with(**keys)
    deadline = round.reporting.deadline(NOW)
    of = Cycle(number=number, occupied=occupied, deadline=deadline, is_open=is_open)
    asker = Asker(waiting=waiting, last_cycle=last_cycle)
    rejection = admission(server, round, of, asker, NOW + later, draw=draw, retry=5.0)
    if rejection is None:
        assert is_open
        assert server.max_workers is None or occupied < server.max_workers
        return
    if rejection.timeout is None:
        assert server.num_cycles is not None
        return
    assert isinstance(rejection.timeout, int)
    assert 1 <= rejection.timeout <= max(5, math.ceil(server.cycle_length or 0))


class CourseOfACycle(RuleBasedStateMachine):
    """Workers come, report or vanish, and time passes, as the services apply the decisions."""

    @initialize(keys=configs.filter(valid))
    def host(self, keys):
        keys["minimum_upload_speed"] = None
        self.config, self.round = config(**keys), round_with(**keys)
        self.stage = self.round.reporting
        self.now = NOW
        self.cycle = Cycle(deadline=self.stage.deadline(NOW))
        self.training, self.released = 0, 0

    def is_open(self):
        return self.cycle.is_open

    def change(self, **values):
        self.cycle = dataclasses.replace(self.cycle, **values)

    @precondition(is_open)
    @rule(waiting=st.integers(1, 10), draw=st.floats(0, 1, exclude_max=True))
    def a_worker_asks(self, waiting, draw):
        asker = Asker(waiting=waiting)
        found = admission(self.config, self.round, self.cycle, asker, self.now, draw=draw, retry=1.0)
        if found is None:
            self.training += 1
            self.change(occupied=self.cycle.occupied + 1)

    @precondition(lambda self: self.is_open() and self.training + self.released > 0)
    @rule(late=st.booleans())
    def a_worker_reports(self, late):
        late = self.released > 0 and (late or not self.training)
        self.released -= late
        self.training -= not late
        self.change(reported=self.cycle.reported + 1, occupied=self.cycle.occupied + late)
        if self.stage.is_complete(self.cycle, self.now):
            self.change(is_open=False)

    @precondition(is_open)
    @rule(seconds=st.floats(0, 1e5))
    def time_passes(self, seconds):
        self.now += seconds
        if not is_overdue(self.cycle, self.now):
            return
        if self.stage.is_complete(self.cycle, self.now):
            self.change(is_open=False)
            return
        self.released, self.training = self.released + self.training, 0
        self.change(deadline=self.stage.deadline(self.now), occupied=self.cycle.reported)

    @precondition(lambda self: not self.is_open())
    @rule()
    def the_next_cycle_opens(self):
        self.training, self.released = 0, 0
        self.cycle = Cycle(number=self.cycle.number + 1, deadline=self.stage.deadline(self.now))

    @invariant()
    def no_more_than_the_limit_is_averaged(self):
        most = self.stage.limit
        assert most is None or self.cycle.reported <= most

    @invariant()
    def no_fewer_than_needed_are_averaged(self):
        if not self.is_open():
            assert self.cycle.reported >= self.stage.needed >= (self.config.min_diffs or 1)

    @invariant()
    def the_places_taken_are_those_of_workers_that_train_or_have_reported(self):
        assert self.cycle.occupied == self.cycle.reported + self.training

    @invariant()
    def an_open_cycle_is_never_complete(self):
        """Else it would wait for an event that need not come."""
        if self.is_open() and not is_overdue(self.cycle, self.now):
            assert not self.stage.is_complete(self.cycle, self.now)


CourseOfACycle.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestTheCourseOfACycle = CourseOfACycle.TestCase
