"""What stands still is found out by a replica's own clock alone."""

import pytest

from fedplan.grid.background.watch import Watch


class TestACounter:
    @pytest.fixture
    def watch(self):
        self.now = 0.0
        return Watch(10.0, lambda: self.now)

    def after(self, watch, seconds, **seen):
        self.now += seconds
        return watch.still(seen)

    def test_stands_still_when_it_was_seen_unchanged_for_so_long(self, watch):
        assert self.after(watch, 1000, a=1) == set()
        assert self.after(watch, 9.9, a=1) == set()
        assert self.after(watch, 0.1, a=1) == {"a"}
        assert self.after(watch, 50, a=1, b=1) == {"a"}

    def test_is_watched_anew_when_it_changes(self, watch):
        for seconds, value in ((0, 1), (9, 2), (9, 3), (9.9, 3)):
            assert self.after(watch, seconds, a=value) == set()
        assert self.after(watch, 0.1, a=3) == {"a"}
        assert self.after(watch, 0, a=1) == set()

    def test_that_was_away_meanwhile_is_another_one(self, watch):
        self.after(watch, 0, a=1)
        self.after(watch, 5)
        assert self.after(watch, 5, a=1) == set()
        assert self.after(watch, 10, a=1) == {"a"}

    def test_does_not_stand_still_while_nobody_could_raise_it(self, watch):
        self.after(watch, 0, a=1)
        watch.forget()
        assert self.after(watch, 20, a=1) == set()
        assert self.after(watch, 10, a=1) == {"a"}
