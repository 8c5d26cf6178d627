"""Whom a cycle takes, for what, and when a rejected worker may ask again."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedplan.federation import Task
from fedplan.federation.admission import (
    Asker,
    Refusal,
    Rejection,
    admission,
    keeps_waiting_list,
    needs_speed_test,
    task_for,
    waits_until,
)
from fedplan.federation.pacing import Pace
from tests.federation.rounds import NOW, Cycle, Place, config, configs, evaluated, round_with, valid

PACE = Pace(5.0)


def ask(server, of=None, draw=0.0, now=NOW, paused=False, pace=PACE, **asker):
    return admission(
        config(**server),
        round_with(**server),
        of or Cycle(),
        Asker(**asker),
        now,
        draw=draw,
        pace=pace,
        paused=paused,
    )


def why(*args, **kwargs):
    rejection = ask(*args, **kwargs)
    return None if rejection is None else rejection.why


class TestWhomACycleTakes:
    def test_without_any_rule_everybody(self):
        assert ask({}, Cycle(occupied=1000)) is None

    def test_nobody_whose_client_cannot_load_the_plans_and_it_need_not_come_again(self):
        assert ask({}, able=False) == Rejection(Refusal.UNABLE, None)
        assert not ask({"min_workers": 3}, able=False).waits

    def test_nobody_new_while_the_model_is_paused_and_they_may_come_again(self):
        timed = Cycle(deadline=math.inf)
        assert ask({"cycle_length": 60}, timed, paused=True) == Rejection(Refusal.PAUSED, 5)
        assert ask({}, paused=True, place=Place()) is None
        assert why({}, paused=True, place=Place(released=True)) is Refusal.PAUSED
        assert ask({"cycle_length": 60}, timed, paused=True, place=Place(reported=True)).timeout == 5
        assert ask({}, paused=True, able=False) == Rejection(Refusal.UNABLE, None)

    def test_nobody_more_than_max_workers(self):
        assert why({"max_workers": 2}, Cycle(occupied=1)) is None
        assert why({"max_workers": 2}, Cycle(occupied=2)) is Refusal.FULL

    def test_nobody_more_than_the_places_that_the_cycle_was_opened_with(self):
        server = {"max_diffs": 2, "over_selection": 2.0}
        assert why(server, Cycle(occupied=2, places=3)) is None
        assert why(server, Cycle(occupied=3, places=3)) is Refusal.FULL
        assert keeps_waiting_list(config(**server))

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

    def test_by_lot_among_those_that_ask_at_about_the_same_time(self):
        """When the others ask was drawn by lot too."""
        server, pace = {"max_workers": 4}, Pace(5.0, per_second=2.0)
        assert why(server, waiting=1000, draw=0.399, pace=pace) is None
        assert why(server, waiting=1000, draw=0.4, pace=pace) is Refusal.LOT

    def test_a_worker_that_is_in_it_already_and_asks_again(self):
        """The answer may have been lost. It takes no second place, so it may be full."""
        assert why({"max_workers": 1}, Cycle(occupied=1), place=Place()) is None
        assert why({}, Cycle(is_open=False), place=Place()) is Refusal.CLOSING

    def test_no_worker_that_has_reported(self):
        assert why({}, place=Place(reported=True)) is Refusal.REPORTED

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

    def test_when_time_ends_the_cycle_if_only_time_can_or_a_while_later(self):
        place = Place(reported=True)
        assert ask({"cycle_length": 60}, Cycle(deadline=NOW + 33.2), place=place).timeout == 36

    def test_soon_if_reports_can_end_the_cycle_too(self):
        of = Cycle(deadline=NOW + 3600, occupied=2)
        assert ask({"cycle_length": 3600, "max_workers": 2}, of).timeout == 5
        assert ask({"cycle_length": 3600, "max_workers": 2}, of, now=NOW + 3598.5).timeout == 4

    def test_at_once_when_the_cycle_is_closing(self):
        assert ask({}, Cycle(is_open=False)).timeout == 1

    def test_a_herd_is_spread_over_as_long_as_it_takes_at_so_many_a_second(self):
        def told(herd, server, of):
            draws = [number / 100 for number in range(100)]
            return {ask(server, of, pace=Pace(5.0, 10.0, herd, draw)).timeout for draw in draws}

        full = {"max_workers": 2}, Cycle(occupied=2)
        assert told(0, *full) == told(50, *full) == {2, 3, 4, 5, 6, 7}
        many = told(6_000, *full)
        assert min(many) == 2
        assert max(many) == 596
        assert len(many) == 100
        timed = {"cycle_length": 600}, Cycle(deadline=NOW + 60, occupied=2)
        reported = {"place": Place(reported=True)}
        assert ask(*timed, pace=Pace(5.0, 10.0, 0, 0.0), **reported).timeout == 60
        assert ask(*timed, pace=Pace(5.0, 10.0, 300, 0.99), **reported).timeout == 90
        assert told(50, {}, Cycle(is_open=False)) == {1, 2, 3, 4, 5}

    def test_a_herd_is_not_made_to_wait_beyond_all_measure(self):
        assert ask({"max_workers": 2}, Cycle(occupied=2), pace=Pace(5.0, 10.0, 10**9, 0.5)).timeout == 302

    def test_when_it_has_taken_part_seldom_enough_in_a_day(self):
        server = {"most_cycles_per_day": 2}
        taken = [NOW - 80_000.0, NOW - 50_000.0, NOW - 100.0]
        assert ask(server, taken=taken[2:]) is None
        assert ask(server, taken=taken) == Rejection(Refusal.OFTEN, 36_403)
        assert not ask(server, taken=taken).waits
        assert ask(server, taken=taken, place=Place()) is None
        assert ask({}, taken=taken) is None

    def test_in_the_next_cycle_when_it_had_a_place_ten_times(self):
        assert ask({}, place=Place(released=True, grants=9)) is None
        assert ask({}, place=Place(released=True, grants=10)) == Rejection(Refusal.FICKLE, 5)
        assert ask({"num_cycles": 1}, place=Place(released=True, grants=10)).timeout is None
        assert ask({}, place=Place(grants=10)) is None

    def test_a_place_that_the_grid_took_does_not_count_as_one_that_it_had(self):
        """A slow worker may be one of the few without which the cycle cannot end."""
        assert ask({}, place=Place(released=True, grants=1000, lapses=991)) is None
        assert ask({}, place=Place(released=True, grants=1000, lapses=990)) == Rejection(Refusal.FICKLE, 5)

    def test_it_counts_as_waiting_until_then_and_some_time_longer(self):
        rejection = Rejection(Refusal.FULL, 5)
        assert rejection.waits
        assert waits_until(rejection, NOW) > NOW + 5

    @pytest.mark.parametrize("reason", [Refusal.REPORTED, Refusal.RESTING, Refusal.TOO_SLOW])
    def test_it_does_not_count_as_waiting_when_it_could_not_be_taken(self, reason):
        assert not Rejection(reason, 5).waits


def test_a_speed_test_is_asked_for_only_where_a_minimum_is_set():
    assert not needs_speed_test(config())
    assert needs_speed_test(config(minimum_upload_speed=1))
    assert needs_speed_test(config(minimum_download_speed=1))


def test_who_waits_is_noted_only_where_it_matters():
    assert not keeps_waiting_list(config())
    assert not keeps_waiting_list(config(max_workers=3, pool_selection="iterate"))
    assert keeps_waiting_list(config(max_workers=3))
    assert keeps_waiting_list(config(min_workers=3, pool_selection="iterate"))


class TestACycleOfEvaluation:
    ROUND = evaluated(max_diffs=3, num_cycles=2)

    def asked(self, of, **asker):
        found = admission(
            config(max_diffs=3, num_cycles=2), self.ROUND, of, Asker(**asker), NOW, draw=0.0, pace=PACE
        )
        return found and (found.why, found.timeout)

    def test_takes_only_workers_that_do_such_work_and_no_more_than_end_it(self):
        of = Cycle(number=3, task=Task.EVALUATION, occupied=2, deadline=NOW + 100)
        assert self.asked(of) == (Refusal.FINISHED, None)
        assert self.asked(of, evaluates=True) is None
        assert self.asked(of, evaluates=True, able=False) is None
        full = dataclasses.replace(of, occupied=3)
        assert self.asked(full, evaluates=True) == (Refusal.FULL, 5)

    def test_takes_workers_that_rest_from_training(self):
        keys = {"do_not_reuse_workers_until_cycle": 5, "num_cycles": 2}
        of = Cycle(number=3, task=Task.EVALUATION, deadline=NOW + 100)
        asker = Asker(evaluates=True, last_cycle=2)
        assert admission(config(**keys), evaluated(**keys), of, asker, NOW, draw=0.0, pace=PACE) is None

    def test_is_worth_coming_back_for_only_for_them(self):
        last = Cycle(number=2, is_open=False)
        assert self.asked(last) == (Refusal.FINISHED, None)
        assert self.asked(last, evaluates=True) == (Refusal.CLOSING, 1)
        reported = {"place": Place(reported=True)}
        assert self.asked(Cycle(number=2), **reported) == (Refusal.REPORTED, None)
        assert self.asked(Cycle(number=2), evaluates=True, **reported) == (Refusal.REPORTED, 5)
        over = Cycle(number=3, task=Task.EVALUATION, deadline=NOW + 100)
        assert self.asked(over, evaluates=True, **reported) == (Refusal.REPORTED, None)


class TestAFractionForEvaluationAlone:
    SERVER = config(max_workers=6, evaluation={"fraction": 0.25})

    def test_is_kept_as_workers_come_and_takes_no_place_from_those_who_train(self):
        cycle, came = Cycle(), []
        for _ in range(30):
            asker = Asker(evaluates=True)
            if admission(self.SERVER, evaluated(max_workers=6), cycle, asker, NOW, draw=0.0, pace=PACE):
                continue
            came.append(task_for(self.SERVER, cycle, asker))
            trains = came[-1] is Task.TRAINING
            cycle = dataclasses.replace(
                cycle, occupied=cycle.occupied + trains, evaluators=cycle.evaluators + (not trains)
            )
        assert came[:4] == [Task.TRAINING] * 3 + [Task.EVALUATION]
        assert (cycle.occupied, cycle.evaluators) == (6, 2)

    def test_is_of_workers_that_do_such_work(self):
        cycle = Cycle(occupied=3)
        assert task_for(self.SERVER, cycle, Asker(evaluates=True)) is Task.EVALUATION
        assert task_for(self.SERVER, cycle, Asker()) is Task.TRAINING
        assert task_for(config(), cycle, Asker(evaluates=True)) is Task.TRAINING

    def test_leaves_a_worker_the_task_that_it_had(self):
        cycle = Cycle(occupied=3)
        trains, measures = Place(released=True), Place(released=True, aside=True)
        assert task_for(self.SERVER, cycle, Asker(evaluates=True, place=trains)) is Task.TRAINING
        assert task_for(self.SERVER, Cycle(), Asker(evaluates=True, place=measures)) is Task.EVALUATION


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
    rejection = admission(server, round, of, asker, NOW + later, draw=draw, pace=PACE)
    if rejection is None:
        assert is_open
        assert server.max_workers is None or occupied < server.max_workers
        return
    if rejection.timeout is None:
        assert server.num_cycles is not None
        return
    assert isinstance(rejection.timeout, int)
    assert 1 <= rejection.timeout <= max(5, math.ceil((server.cycle_length or 0) + 2.5))
