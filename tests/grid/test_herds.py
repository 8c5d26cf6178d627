"""How many rejected workers wait, each until the time that it was told."""

from fedplan.grid.herds import Herds

NOW = 0.0


def add(herds, process_id, identity, until, address=None, now=NOW):
    herds.add(process_id, identity, until, now, address)


def test_workers_wait_until_the_second_that_they_were_told_has_passed():
    herds = Herds()
    for identity, until in (("a", 10.2), ("b", 10.9), ("c", 12.0)):
        add(herds, 1, identity, until)
    add(herds, 2, "a", 50.0)
    assert [herds.count(1, now) for now in (0.0, 10.0, 10.95, 12.0, 12.5)] == [3, 3, 1, 1, 0]
    assert herds.count(2, 20.0) == 1
    assert herds.count(3, 20.0) == 0


def test_a_worker_that_asks_again_and_again_is_counted_once_until_the_newest_time():
    herds = Herds()
    for until in (30.0, 20.0, 10.0):
        add(herds, 1, "a", until)
    assert [herds.count(1, now) for now in (0.0, 10.0, 11.5)] == [1, 1, 0]


def test_a_worker_that_got_a_place_does_not_wait_any_more():
    herds = Herds()
    add(herds, 1, "a", 10.0)
    herds.remove(1, "a")
    herds.remove(1, "a")
    assert herds.count(1, NOW) == 0


def test_one_address_counts_for_no_more_than_a_number():
    """An address of IPv6 has neighbours that are the same household's."""
    herds = Herds(most_of_address=3)
    for number in range(1000):
        add(herds, 1, f"a{number}", 10.0, "203.0.113.1")
        add(herds, 1, f"b{number}", 10.0, f"2001:db8::{number:x}")
    assert herds.count(1, NOW) == 6
    add(herds, 1, "another", 10.0, "203.0.113.2")
    add(herds, 2, "a0", 10.0, "203.0.113.1")
    assert (herds.count(1, NOW), herds.count(2, NOW)) == (7, 1)
    assert herds.count(1, 20.0) == 0
    add(herds, 1, "a", 30.0, "203.0.113.1", now=20.0)
    assert herds.count(1, 20.0) == 1


def test_no_more_are_remembered_than_a_number():
    herds = Herds(most=5)
    for number in range(1000):
        add(herds, number % 2, str(number), 10.0)
    assert herds.count(0, NOW) + herds.count(1, NOW) == 5


def test_a_model_for_which_nobody_waits_any_more_takes_no_memory_though_nobody_asks_for_it():
    """It may be deleted."""
    herds = Herds(most_of_address=10_000)
    for until in range(1000):
        add(herds, until % 7, str(until), float(until), "203.0.113.1")
    assert herds.count(8, 2000.0) == 0
    assert not any((herds._waiting, herds._told, herds._seconds, herds._of_model, herds._of_address))
