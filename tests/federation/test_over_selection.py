"""How many more workers a cycle takes: as many as make up for those that dropped out of the cycles before."""

import random

import pytest

from fedplan.errors import ConfigError
from fedplan.federation.over_selection import LATEST_CYCLES, DropOut, Held, drop_out, places_to_give

from .rounds import config


def places(gone, judged, **server):
    return places_to_give(config(**{"max_diffs": 100, "over_selection": 1.5} | server), DropOut(gone, judged))


class TestThePlacesOfACycle:
    def test_are_what_the_server_config_says_where_it_does_not_over_select(self):
        assert places_to_give(config(max_diffs=100), DropOut(50, 100)) is None

    def test_are_as_many_as_reports_are_needed_where_nothing_is_known_or_nobody_dropped_out(self):
        assert places(0, 0) == places(0, 1000) == 100

    def test_make_up_for_those_that_drop_out(self):
        assert places(200, 1000) == 125
        assert places(1, 1000) == 101

    def test_are_no_more_than_the_owner_allows(self):
        assert places(400, 1000) == places(1000, 1000) == 150
        assert places(200, 1000, max_workers=110) == 110

    def test_are_whole_and_not_one_more_for_the_sake_of_rounding(self):
        assert places(10, 10, max_diffs=10, over_selection=1.1) == 11
        assert places(10, 10, max_diffs=7, over_selection=1.1) == 8

    def test_need_a_number_of_reports_that_closes_a_cycle(self):
        with pytest.raises(ConfigError, match="over_selection is a multiple of max_diffs"):
            config(over_selection=1.5)


class TestWhatACycleTells:
    def test_counts_places_that_were_held_for_three_times_the_mean_time_of_a_report(self):
        held = [Held(0.0, 10.0), Held(0.0, 10.0), Held(0.0, None), Held(5.0, None)]
        assert drop_out(held, 29.0) == DropOut()
        assert drop_out(held, 30.0) == DropOut(1, 3)
        assert drop_out(held, 35.0) == DropOut(2, 4)

    def test_is_nothing_where_nobody_reported(self):
        assert drop_out([Held(0.0, None)], 1e9) == DropOut()
        assert drop_out([], 1e9) == DropOut()
        assert DropOut().share == 0.0


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3])
def test_a_cycle_comes_to_take_as_many_as_make_up_for_the_drop_out(share):
    """Workers come at once and report after times that differ much; in each of 60 cycles some never do."""
    draw = random.Random(7)
    server = config(max_diffs=100, over_selection=2.0, place_timeout=1000.0)
    seen, given = [DropOut()], []

    def held(taken):
        return Held(taken, None if draw.random() < share else taken + draw.lognormvariate(3, 0.5))

    for _ in range(60):
        latest = seen[-LATEST_CYCLES:]
        total = DropOut(sum(one.gone for one in latest), sum(one.judged for one in latest))
        places = places_to_give(server, total)
        cohort = [held(0.0) for _ in range(places)]
        while sum(place.reported is not None for place in cohort) < 100:
            cohort.append(held(1000.0))  # a place has lapsed, and another worker comes
        ended = sorted(place.reported for place in cohort if place.reported is not None)[99]
        known = [
            Held(one.taken, one.reported if (one.reported or ended) <= ended else None) for one in cohort
        ]
        seen.append(drop_out(known, ended))
        given.append(places)
    wanted = 100 / (1 - share)
    assert wanted * 0.95 <= sum(given[10:]) / 50 <= wanted * 1.15
