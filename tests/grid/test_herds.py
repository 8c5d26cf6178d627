"""How many rejected workers wait, each until the time that it was told."""

from fedplan.grid.herds import Herds


def test_workers_wait_until_the_second_that_they_were_told_has_passed():
    herds = Herds()
    for until in (10.2, 10.9, 12.0):
        herds.add(1, until)
    herds.add(2, 50.0)
    assert [herds.count(1, now) for now in (0.0, 10.0, 10.95, 12.0, 12.5)] == [3, 3, 1, 1, 0]
    assert herds.count(2, 20.0) == 1
    assert herds.count(3, 20.0) == 0


def test_a_model_for_which_nobody_waits_any_more_takes_no_memory():
    herds = Herds()
    for until in range(1000):
        herds.add(until % 7, float(until))
    assert [herds.count(process_id, 2000.0) for process_id in range(7)] == [0] * 7
    assert not herds._herds
