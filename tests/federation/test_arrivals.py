"""The simulation of arrivals in `benchmarks/arrivals.py` keeps what a grid keeps, on a small crowd."""

import dataclasses
import itertools

import numpy as np
import pytest
from benchmarks.arrivals import Arrivals
from benchmarks.crowds import Calendar, Crowd, Herd, at_once

from fedplan.grid.herds import Herds

SERVER = {
    "max_diffs": 15,
    "over_selection": 1.4,
    "min_diffs": 5,
    "cycle_length": 200.0,
    "place_timeout": 90.0,
    "most_cycles_per_day": 1,
}


@pytest.fixture(scope="module", params=[True, False], ids=["paced", "constant"])
def done(request):
    crowd = dataclasses.replace(at_once(120, 3, 900), training=(20.0, 0.4))
    simulation = Arrivals(crowd, 3, paced=request.param, server=SERVER)
    return simulation, simulation.run()


def test_no_cycle_has_more_workers_than_places_and_none_gives_more_than_over_selection_allows(done):
    _, out = done
    assert len(out.cycles) >= 4
    assert [cycle for cycle in out.cycles if not cycle.most_taken <= cycle.places <= 21] == []
    assert max(cycle.places for cycle in out.cycles) > 15, "the drop-out was never learned"


def test_every_cycle_ends_with_enough_reports_and_the_next_one_opens_after_its_averaging(done):
    simulation, out = done
    assert [cycle for cycle in out.cycles if not 5 <= cycle.reported <= 15] == []
    pauses = [after.opened - before.ended for before, after in itertools.pairwise(out.cycles)]
    assert set(pauses) == {1}
    assert simulation.last_opened == out.cycles[-1].ended + 1, "the last one has ended, and none followed"


def test_no_worker_takes_part_more_often_than_in_one_cycle_a_day(done):
    simulation, out = done
    assert {len(times) for times in simulation.took_part.values()} == {1}
    assert set(simulation.took_part) <= set(np.flatnonzero(out.placed >= 0).tolist())


def test_the_same_seed_gives_the_same_simulation_and_another_seed_another_one():
    def requests(seed):
        return Arrivals(at_once(40, 3, 300), seed, server=SERVER).run().requests.tolist()

    assert requests(1) == requests(1) != requests(2)


def test_workers_that_sleep_ask_no_more():
    crowd = Crowd(np.zeros(20, np.int64), np.full(20, 60), 300)
    full = {"max_workers": 1, "max_diffs": 1, "place_timeout": 1000.0}
    out = Arrivals(crowd, 1, server=full).run()
    assert out.requests[:60].sum() > 100
    assert out.requests[60:].sum() <= 1  # the report of the one that has the place


def test_a_herd_is_counted_as_the_grid_counts_it():
    rng = np.random.default_rng(5)
    ours, grids = Herd(100), Herds()
    for now in range(50):
        until = now + rng.integers(1, 30, 4)
        ours.add(until)
        for number, second in enumerate(until.tolist()):
            grids.add(1, f"{now}-{number}", second, now, None)
        assert ours.count(now) == grids.count(1, now)


def test_each_worker_comes_in_its_second():
    calendar, rng = Calendar(), np.random.default_rng(2)
    due = {worker: int(second) for worker, second in enumerate(rng.integers(0, 200, 500))}
    calendar.add(np.array([*due]), np.array([*due.values()]))
    calendar.add_one(500, 70)
    came = {second: calendar.pop(second) for second in range(200)}
    found = {int(worker): second for second, who in came.items() if who is not None for worker in who}
    assert found == due | {500: 70}
