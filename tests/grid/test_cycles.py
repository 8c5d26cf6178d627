"""The decisions about cycles, as a specification, and their invariants under any course of events."""

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fedplan.grid import cycles
from fedplan.grid.cycles import Asker, Refusal, Rejection
from fedplan.grid.records import Assignment, Cycle, Phase
from fedplan.wire.config import ServerConfig

NOW = 1000.0


def config(**keys):
    return ServerConfig.model_validate(keys)


def cycle(**values):
    return Cycle(**{"id": 1, "process_id": 1, "number": 1, "phase": Phase.OPEN} | values, **STARTED)


STARTED = {"checkpoint_id": 1, "opened_at": NOW}


def ask(server, of=None, draw=0.0, now=NOW, **asker):
    return cycles.admission(config(**server), of or cycle(), Asker(**asker), now, draw=draw, retry=5.0)


def why(*args, **kwargs):
    rejection = ask(*args, **kwargs)
    return None if rejection is None else rejection.why


class TestWhomACycleTakes:
    def test_without_any_rule_everybody(self):
        assert ask({}, cycle(occupied=1000)) is None

    def test_nobody_whose_client_cannot_load_the_plans_and_it_need_not_come_again(self):
        assert ask({}, able=False) == Rejection(Refusal.UNABLE, None)
        assert not ask({"min_workers": 3}, able=False).waits

    def test_nobody_more_than_max_workers(self):
        assert why({"max_workers": 2}, cycle(occupied=1)) is None
        assert why({"max_workers": 2}, cycle(occupied=2)) is Refusal.FULL

    def test_nobody_before_min_workers_have_asked(self):
        assert why({"min_workers": 3}, waiting=2) is Refusal.GATHERING
        assert why({"min_workers": 3}, waiting=3) is None

    def test_whoever_asks_once_min_workers_have_asked(self):
        assert why({"min_workers": 3}, cycle(occupied=1), waiting=1) is None

    def test_those_who_come_first_when_it_iterates(self):
        server = {"max_workers": 2, "pool_selection": "iterate"}
        assert why(server, waiting=100, draw=0.999) is None

    def test_by_lot_when_more_are_waiting_than_places_are_free(self):
        server = {"max_workers": 4, "pool_selection": "random"}
        half_full = cycle(occupied=2)
        assert why(server, half_full, waiting=2, draw=0.999) is None
        assert why(server, half_full, waiting=8, draw=0.2499) is None
        assert why(server, half_full, waiting=8, draw=0.25) is Refusal.LOT

    def test_no_worker_twice(self):
        training = Assignment(1, 1, "w")
        assert why({}, place=training) is Refusal.TRAINING
        assert why({}, place=dataclasses.replace(training, reported=True)) is Refusal.REPORTED

    def test_again_a_worker_that_lost_its_place_to_time(self):
        assert why({}, place=Assignment(1, 1, "w", released=True)) is None

    @pytest.mark.parametrize(("number", "taken"), [(3, False), (4, False), (5, True), (9, True)])
    def test_a_worker_that_took_part_only_so_many_cycles_later(self, number, taken):
        server = {"do_not_reuse_workers_until_cycle": 3}
        assert (why(server, cycle(number=number), last_cycle=2) is None) == taken

    @pytest.mark.parametrize("key", ["download", "upload"])
    @pytest.mark.parametrize(
        ("speed", "taken"), [(None, False), (-1, False), (9.9, False), (10, True), (1e6, True), (0, True)]
    )
    def test_only_connections_of_the_minimum_speed(self, key, speed, taken):
        assert (why({f"minimum_{key}_speed": 10}, **{key: speed}) is None) == taken

    def test_unmeasured_speeds_where_none_is_asked_for(self):
        assert why({"minimum_upload_speed": 10}, upload=20, download=None) is None

    @pytest.mark.parametrize("phase", [Phase.CLOSING, Phase.DONE, Phase.FAILED])
    def test_nobody_when_it_is_closing_or_closed(self, phase):
        assert why({}, cycle(phase=phase)) is Refusal.CLOSING
        assert why({"num_cycles": 1}, cycle(phase=phase)) is Refusal.FINISHED
        assert why({"num_cycles": 2}, cycle(phase=phase)) is Refusal.CLOSING

    def test_nobody_when_its_time_is_over(self):
        assert why({"cycle_length": 10}, cycle(deadline=NOW)) is Refusal.CLOSING


class TestWhenARejectedWorkerMayAskAgain:
    def test_never_when_the_model_is_finished(self):
        assert ask({"num_cycles": 1}, cycle(phase=Phase.DONE)).timeout is None

    def test_never_when_it_has_reported_in_the_last_cycle(self):
        place = Assignment(1, 1, "w", reported=True)
        assert ask({"num_cycles": 1}, place=place).timeout is None
        assert ask({"num_cycles": 2}, place=place).timeout == 5

    def test_never_when_it_may_take_part_only_after_the_last_cycle(self):
        server = {"num_cycles": 4, "do_not_reuse_workers_until_cycle": 3}
        assert ask(server, cycle(number=3), last_cycle=1).timeout == 5
        assert ask(server, cycle(number=3), last_cycle=2).timeout is None

    def test_when_time_ends_the_cycle_if_only_time_can(self):
        place = Assignment(1, 1, "w")
        assert ask({"cycle_length": 60}, cycle(deadline=NOW + 33.2), place=place).timeout == 34

    def test_soon_if_reports_can_end_the_cycle_too(self):
        of = cycle(deadline=NOW + 3600, occupied=2)
        assert ask({"cycle_length": 3600, "max_workers": 2}, of).timeout == 5
        assert ask({"cycle_length": 3600, "max_workers": 2}, of, now=NOW + 3598.5).timeout == 2

    def test_at_once_when_the_cycle_is_closing(self):
        assert ask({}, cycle(phase=Phase.CLOSING)).timeout == 1

    def test_it_counts_as_waiting_until_then_and_some_time_longer(self):
        rejection = Rejection(Refusal.FULL, 5)
        assert rejection.waits
        assert cycles.waits_until(rejection, NOW) > NOW + 5

    @pytest.mark.parametrize("reason", [Refusal.TRAINING, Refusal.RESTING, Refusal.TOO_SLOW])
    def test_it_does_not_count_as_waiting_when_it_could_not_be_taken(self, reason):
        assert not Rejection(reason, 5).waits


class TestWhenACycleCloses:
    @pytest.mark.parametrize(
        ("server", "limit"),
        [({}, None), ({"max_diffs": 3}, 3), ({"max_workers": 4}, 4), ({"max_diffs": 5, "max_workers": 4}, 4)],
    )
    def test_at_max_diffs_or_when_max_workers_have_reported(self, server, limit):
        assert cycles.limit(config(**server)) == limit
        if limit is not None:
            assert cycles.is_complete(config(**server), cycle(occupied=limit, reported=limit), NOW)

    def test_not_before_max_diffs_when_nothing_else_closes_it(self):
        for reported in (1, 2):
            of = cycle(occupied=reported, reported=reported)
            assert not cycles.is_complete(config(max_diffs=3), of, NOW)
            assert not cycles.is_complete(config(max_diffs=3, min_diffs=1), of, NOW)

    @pytest.mark.parametrize(("reported", "closes"), [(0, False), (1, False), (2, True), (9, True)])
    def test_by_time_with_at_least_min_diffs(self, reported, closes):
        server = config(cycle_length=60, min_diffs=2)
        of = cycle(deadline=NOW, reported=reported, occupied=10)
        assert cycles.is_complete(server, of, NOW) == closes
        assert not cycles.is_complete(server, of, NOW - 0.001)

    def test_by_time_with_one_diff_when_no_minimum_is_set(self):
        server = config(cycle_length=60, min_workers=5)
        assert cycles.is_complete(server, cycle(deadline=NOW, reported=1, occupied=5), NOW)
        assert not cycles.is_complete(server, cycle(deadline=NOW, occupied=5), NOW)

    def test_at_min_diffs_when_nothing_else_closes_it(self):
        assert not cycles.is_complete(config(min_diffs=2), cycle(reported=1, occupied=1), NOW)
        assert cycles.is_complete(config(min_diffs=2), cycle(reported=2, occupied=5), NOW)

    def test_when_nobody_is_training_any_more_where_no_number_is_set(self):
        assert not cycles.is_complete(config(), cycle(reported=1, occupied=2), NOW)
        assert cycles.is_complete(config(), cycle(reported=2, occupied=2), NOW)
        assert not cycles.is_complete(config(min_workers=3), cycle(reported=2, occupied=2), NOW)

    def test_never_without_a_report(self):
        assert not cycles.is_complete(config(), cycle(), NOW)

    def test_its_time_is_over_at_the_deadline(self):
        assert cycles.deadline(config(cycle_length=60), NOW) == NOW + 60
        assert cycles.deadline(config(), NOW) is None
        assert cycles.is_overdue(cycle(deadline=NOW), NOW)
        assert not cycles.is_overdue(cycle(deadline=NOW), NOW - 1)
        assert not cycles.is_overdue(cycle(), NOW)
        assert not cycles.is_overdue(cycle(deadline=NOW, phase=Phase.CLOSING), NOW)


def test_a_model_has_num_cycles_cycles():
    assert cycles.takes_place(config(num_cycles=3), 3)
    assert not cycles.takes_place(config(num_cycles=3), 4)
    assert cycles.takes_place(config(), 10**6)


def test_a_speed_test_is_asked_for_only_where_a_minimum_is_set():
    assert not cycles.needs_speed_test(config())
    assert cycles.needs_speed_test(config(minimum_upload_speed=1))
    assert cycles.needs_speed_test(config(minimum_download_speed=1))


def test_who_waits_is_noted_only_where_it_matters():
    assert not cycles.keeps_waiting_list(config())
    assert not cycles.keeps_waiting_list(config(max_workers=3, pool_selection="iterate"))
    assert cycles.keeps_waiting_list(config(max_workers=3))
    assert cycles.keeps_waiting_list(config(min_workers=3, pool_selection="iterate"))


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
    st.sampled_from(Phase),
)
def test_a_rejection_says_how_many_whole_seconds_to_wait_or_that_waiting_is_useless(
    keys, number, occupied, later, waiting, draw, last_cycle, phase
):
    server = config(**keys)
    of = cycle(number=number, occupied=occupied, deadline=cycles.deadline(server, NOW), phase=phase)
    asker = Asker(waiting=waiting, last_cycle=last_cycle)
    rejection = cycles.admission(server, of, asker, NOW + later, draw=draw, retry=5.0)
    if rejection is None:
        assert phase is Phase.OPEN
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
        self.config = config(**keys)
        self.now = NOW
        self.cycle = cycle(deadline=cycles.deadline(self.config, NOW))
        self.training, self.released = 0, 0

    def is_open(self):
        return self.cycle.phase is Phase.OPEN

    def change(self, **values):
        self.cycle = dataclasses.replace(self.cycle, **values)

    @precondition(is_open)
    @rule(waiting=st.integers(1, 10), draw=st.floats(0, 1, exclude_max=True))
    def a_worker_asks(self, waiting, draw):
        asker = Asker(waiting=waiting)
        if cycles.admission(self.config, self.cycle, asker, self.now, draw=draw, retry=1.0) is None:
            self.training += 1
            self.change(occupied=self.cycle.occupied + 1)

    @precondition(lambda self: self.is_open() and self.training + self.released > 0)
    @rule(late=st.booleans())
    def a_worker_reports(self, late):
        late = self.released > 0 and (late or not self.training)
        self.released -= late
        self.training -= not late
        self.change(reported=self.cycle.reported + 1, occupied=self.cycle.occupied + late)
        if cycles.is_complete(self.config, self.cycle, self.now):
            self.change(phase=Phase.CLOSING)

    @precondition(is_open)
    @rule(seconds=st.floats(0, 1e5))
    def time_passes(self, seconds):
        self.now += seconds
        if not cycles.is_overdue(self.cycle, self.now):
            return
        if cycles.is_complete(self.config, self.cycle, self.now):
            self.change(phase=Phase.CLOSING)
            return
        self.released, self.training = self.released + self.training, 0
        self.change(deadline=cycles.deadline(self.config, self.now), occupied=self.cycle.reported)

    @precondition(lambda self: not self.is_open())
    @rule()
    def the_next_cycle_opens(self):
        self.training, self.released = 0, 0
        self.cycle = cycle(number=self.cycle.number + 1, deadline=cycles.deadline(self.config, self.now))

    @invariant()
    def no_more_than_the_limit_is_averaged(self):
        most = cycles.limit(self.config)
        assert most is None or self.cycle.reported <= most

    @invariant()
    def no_fewer_than_needed_are_averaged(self):
        if not self.is_open():
            assert self.cycle.reported >= cycles.needed(self.config) >= (self.config.min_diffs or 1)

    @invariant()
    def the_places_taken_are_those_of_workers_that_train_or_have_reported(self):
        assert self.cycle.occupied == self.cycle.reported + self.training

    @invariant()
    def an_open_cycle_is_never_complete(self):
        """Else it would wait for an event that need not come."""
        if self.is_open() and not cycles.is_overdue(self.cycle, self.now):
            assert not cycles.is_complete(self.config, self.cycle, self.now)


CourseOfACycle.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestTheCourseOfACycle = CourseOfACycle.TestCase
