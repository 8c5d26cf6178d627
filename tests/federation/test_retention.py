"""Which checkpoints may be deleted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedplan.federation.retention import dispensable
from fedplan.wire.config import CheckpointsKept


@pytest.mark.parametrize(
    ("kept", "gone"),
    [
        (None, []),
        (CheckpointsKept(), [1, 2, 3, 5, 6, 7, 8, 9]),
        (CheckpointsKept(last=3), [1, 2, 3, 5, 6, 7]),
        (CheckpointsKept(last=20), []),
        (CheckpointsKept(last=2, every=3), [1, 2, 5, 7, 8]),
    ],
)
def test_what_is_neither_kept_nor_needed_goes(kept, gone):
    assert dispensable(kept, range(1, 11), needed={4}) == gone


@given(
    st.sets(st.integers(1, 60), min_size=1),
    st.sets(st.integers(1, 60)),
    st.integers(1, 9),
    st.none() | st.integers(1, 9),
)
def test_the_newest_and_what_is_needed_stay_and_doing_it_again_changes_nothing(there, needed, last, every):
    kept = CheckpointsKept(last=last, every=every)
    left = there - set(dispensable(kept, there, needed))
    assert max(there) in left
    assert needed & there <= left
    assert dispensable(kept, left, needed) == []
