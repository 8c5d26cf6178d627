"""What a cycle waits for, as a specification, and its invariants under any course of events."""

import dataclasses

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fedplan.federation import (
    GATHER,
    KEYS,
    REPORTS,
    SHARES,
    UNMASKING,
    Round,
    Stage,
    Task,
    enough_to_stop,
    gone_since,
    is_overdue,
    secure_stages,
    strategy_of,
)
from fedplan.federation.admission import Asker, Refusal, admission
from fedplan.federation.pacing import Pace
from fedplan.wire.config import ServerConfig
from tests.federation.rounds import NOW, Cycle, Place, config, configs, evaluated, round_with, setting, valid


def stage(**keys) -> Stage:
    return round_with(**keys).reporting


def test_a_worker_is_gone_when_it_has_not_reported_for_the_place_timeout():
    assert gone_since(config(place_timeout=60), NOW) == NOW - 60
    assert gone_since(config(), NOW) == NOW - 86_400
    assert gone_since(config(cycle_length=5), NOW) == NOW - 86_400


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

    def test_when_nobody_is_training_any_more_also_before_max_workers_have_come(self):
        alone = stage(max_workers=10)
        assert not alone.is_complete(Cycle(reported=1, occupied=2), NOW)
        assert alone.is_complete(Cycle(reported=1, occupied=1), NOW)
        assert stage(max_workers=10, min_diffs=2).is_complete(Cycle(reported=2, occupied=5), NOW)

    @pytest.mark.parametrize(
        ("server", "lacking"),
        [
            ({}, None),
            ({"max_workers": 10}, None),
            ({"max_workers": 10, "min_diffs": 4}, 3),
            ({"max_workers": 10, "cycle_length": 60}, 9),
            ({"max_diffs": 5, "max_workers": 4}, 3),
            ({"max_diffs": 5, "min_diffs": 2}, 4),
            ({"strategy": {"name": "fedbuff", "k": 3}}, 2),
        ],
    )
    def test_it_lacks_as_many_reports_as_end_it_by_their_number(self, server, lacking):
        assert stage(**server).lacking(Cycle(reported=1, occupied=2)) == lacking

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


@pytest.mark.parametrize(
    ("server", "enough"),
    [
        ({"min_diffs": 2, "max_diffs": 9}, 2),
        ({"max_diffs": 9}, 9),
        ({"cycle_length": 60}, 1),
        ({"strategy": {"name": "fedbuff", "k": 4}}, 4),
        ({"strategy": {"name": "krum", "f": 1}, "min_diffs": 2}, 5),
    ],
)
def test_a_training_that_is_stopped_needs_min_diffs_or_else_what_its_cycle_needs(server, enough):
    assert enough_to_stop(strategy_of(setting(server))) == enough


def test_a_model_has_num_cycles_cycles():
    assert round_with(num_cycles=3).takes_place(3)
    assert not round_with(num_cycles=3).takes_place(4)
    assert round_with().takes_place(10**6)


class TestASecureRound:
    """Ten places, of which three may drop out."""

    SERVER = {"max_weight": 9.0, "secure_aggregation": {"workers": 10, "clip": 1.0}}  # noqa: RUF012

    def stage(self, name, members=10):
        config = round_with(**self.SERVER)
        assert [stage.name for stage in config.stages] == [GATHER, KEYS, SHARES, REPORTS, UNMASKING]
        stages = secure_stages(ServerConfig.model_validate(self.SERVER).secure_aggregation, members)
        return next(stage for stage in stages if stage.name == name)

    def test_begins_at_once_with_all_places_taken_and_by_time_with_so_many_as_may_be_left(self):
        gather = self.stage(GATHER)
        assert gather.is_complete(Cycle(reported=10, occupied=10, deadline=NOW + 9), NOW)
        assert not gather.is_complete(Cycle(reported=9, occupied=10, deadline=NOW + 9), NOW)
        assert gather.is_complete(Cycle(reported=7, occupied=10, deadline=NOW), NOW)
        assert not gather.is_complete(Cycle(reported=6, occupied=10, deadline=NOW), NOW)
        assert gather.is_lost(Cycle(reported=6, occupied=10, deadline=NOW), NOW)
        assert not gather.is_lost(Cycle(reported=6, occupied=10, deadline=NOW + 1), NOW)

    @pytest.mark.parametrize("name", [SHARES, REPORTS])
    @pytest.mark.parametrize(("members", "fewest"), [(10, 7), (7, 5), (3, 3)])
    def test_goes_on_when_all_have_come_that_may_and_by_time_with_enough(self, name, members, fewest):
        stage = self.stage(name, members)
        assert stage.needed == fewest
        all_came = Cycle(reported=members, occupied=members, deadline=NOW + 9)
        assert stage.is_complete(all_came, NOW)
        assert stage.is_complete(Cycle(reported=fewest, occupied=members, deadline=NOW), NOW)
        assert stage.is_lost(Cycle(reported=fewest - 1, occupied=members, deadline=NOW), NOW)

    def test_fails_at_once_when_too_few_are_left(self):
        assert self.stage(SHARES).is_lost(Cycle(reported=2, occupied=6, deadline=NOW + 99), NOW)
        assert not self.stage(SHARES).is_lost(Cycle(reported=2, occupied=7, deadline=NOW + 99), NOW)

    def test_takes_nobody_once_it_is_settled_who_is_in_it(self):
        round = round_with(**self.SERVER)
        given = config(**self.SERVER)

        def asked(cycle):
            return admission(given, round, cycle, Asker(), NOW, draw=0.5, pace=Pace(3.0))

        assert asked(Cycle(stage=GATHER, occupied=9, deadline=NOW + 9)) is None
        assert asked(Cycle(stage=GATHER, occupied=10, deadline=NOW + 9)).why is Refusal.FULL
        later = asked(Cycle(stage=SHARES, occupied=9, deadline=NOW + 900))
        assert (later.why, later.timeout) == (Refusal.GATHERED, 3)

    def test_gives_a_worker_that_starts_anew_its_place_back_only_while_keys_may_still_be_told(self):
        def asked(stage):
            cycle = Cycle(stage=stage, occupied=10, deadline=NOW + 900)
            asker = Asker(place=Place())
            return admission(
                config(**self.SERVER),
                round_with(**self.SERVER),
                cycle,
                asker,
                NOW,
                draw=0.5,
                pace=Pace(3.0),
            )

        assert asked(GATHER) is asked(KEYS) is None
        for stage in (SHARES, REPORTS, UNMASKING):
            assert (asked(stage).why, asked(stage).timeout) == (Refusal.GATHERED, 3)

    def test_may_end_at_any_time_so_who_has_reported_asks_soon_for_the_next(self):
        cycle = Cycle(stage=UNMASKING, occupied=10, reported=9, deadline=NOW + 900)
        asker = Asker(place=Place(reported=True))
        refused = admission(
            config(**self.SERVER), round_with(**self.SERVER), cycle, asker, NOW, draw=0.5, pace=Pace(3.0)
        )
        assert (refused.why, refused.timeout) == (Refusal.REPORTED, 3)

    def test_has_no_evaluation_after_the_last_one(self):
        assert evaluated(**self.SERVER, num_cycles=1).after(Cycle(number=1)) is None


class TestTheEvaluationAfterTheLastCycle:
    ROUND = evaluated(max_diffs=3, num_cycles=2)

    def test_follows_the_last_cycle_of_training_once_and_only_with_an_evaluation_plan(self):
        assert self.ROUND.after(Cycle(number=1)) is Task.TRAINING
        assert self.ROUND.after(Cycle(number=2)) is Task.EVALUATION
        assert self.ROUND.after(Cycle(number=3, task=Task.EVALUATION)) is None
        assert round_with(num_cycles=2).after(Cycle(number=2)) is None

    def test_follows_at_once_when_the_training_has_reached_its_goal(self):
        assert self.ROUND.after(Cycle(number=1), goal_reached=True) is Task.EVALUATION
        assert round_with(num_cycles=2).after(Cycle(number=1), goal_reached=True) is None
        measured = Cycle(number=2, task=Task.EVALUATION)
        assert self.ROUND.after(measured, goal_reached=True) is None

    @pytest.mark.parametrize(
        ("keys", "limit", "length"),
        [
            ({"max_diffs": 3}, 3, 3600),
            ({"max_workers": 4, "cycle_length": 60}, 4, 60),
            ({"cycle_length": 60}, None, 60),
            ({"min_diffs": 2}, 2, 3600),
            ({}, 1, 3600),
            ({"max_diffs": 3, "evaluation": {"reports": 7, "length": 5.0}}, 7, 5.0),
        ],
    )
    def test_ends_at_as_many_reports_as_close_a_cycle_or_by_time_with_what_there_is(
        self, keys, limit, length
    ):
        stage = evaluated(**keys).evaluation
        assert (stage.needed, stage.limit, stage.length) == (0, limit, length)
        cycle = Cycle(number=3, task=Task.EVALUATION, occupied=9, deadline=stage.deadline(NOW))
        assert evaluated(**keys).stage_of(cycle) == stage
        assert not stage.is_complete(cycle, NOW)
        assert stage.is_complete(cycle, NOW + length)
        if limit is not None:
            assert stage.is_complete(dataclasses.replace(cycle, reported=limit), NOW)


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
        found = admission(self.config, self.round, self.cycle, asker, self.now, draw=draw, pace=Pace(1.0))
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
