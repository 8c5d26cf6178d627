"""What was used last is kept."""

from fedplan.plan.run.recent import Recent


def test_what_was_used_longest_ago_makes_room() -> None:
    kept: Recent[str] = Recent(2)
    kept.keep(1, "a")
    kept.keep(2, "b")
    assert kept.get(1) == "a"
    kept.keep(3, "c")
    assert (kept.get(1), kept.get(2), kept.get(3), len(kept)) == ("a", None, "c", 2)


def test_a_key_has_its_newest_value_and_takes_one_place() -> None:
    kept: Recent[str] = Recent(2)
    kept.keep(1, "a")
    kept.keep(2, "b")
    kept.keep(1, "c")
    assert (kept.get(1), kept.get(2)) == ("c", "b")
    kept.clear()
    assert kept.get(1) is None
