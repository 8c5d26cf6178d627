"""The diffs of a cycle in one file: rows that are added one by one, and read by columns."""

from pathlib import Path

import numpy as np
import pytest

from fedplan.federation import Setting
from fedplan.federation.scratch import Scratch
from fedplan.plan import Role
from fedplan.wire import WireTensor
from fedplan.wire.config import ServerConfig


def setting(*dtypes: str) -> Setting:
    """A model of (3, 2), a counter, and 200,000 numbers."""
    layout = (((3, 2), dtypes[0]), ((), "int64"), ((200_000,), dtypes[1]))
    return Setting(ServerConfig(), {}, layout, None, (Role.TRAINED, Role.COUNTER, Role.TRAINED))


def diff(number: int, *dtypes: str) -> list[WireTensor]:
    random = np.random.default_rng(number)
    small, large = random.standard_normal((3, 2)), random.standard_normal(200_000)
    counter = WireTensor(np.array(7), "int64")
    first, second = small.astype(dtypes[0]), large.astype(dtypes[1])
    return [WireTensor(first, dtypes[0]), counter, WireTensor(second, dtypes[1])]


def row(tensors: list[WireTensor]) -> np.ndarray:
    return np.concatenate([tensors[0].array.reshape(-1), tensors[2].array])


@pytest.mark.parametrize(
    ("dtypes", "kept"), [(("float32", "float32"), np.float32), (("float32", "float64"), np.float64)]
)
def test_the_trained_tensors_of_each_diff_are_a_row(
    tmp_path: Path, dtypes: tuple[str, str], kept: type
) -> None:
    with Scratch(tmp_path / "new", setting(*dtypes)) as scratch:
        for number in range(3):
            scratch.add(diff(number, *dtypes), 0.5 if number == 1 else 1.0)
        assert (scratch.count, scratch.elements) == (3, 200_006)
        columns = scratch.columns(4, 150_000)
        assert columns.dtype == kept
        for number, factor in enumerate((1.0, 0.5, 1.0)):
            expected = row(diff(number, *dtypes)).astype(kept)[4:150_000] * kept(factor)
            np.testing.assert_array_equal(columns[number], expected)
        assert list((tmp_path / "new").iterdir()) == []


def test_more_may_come_after_some_were_read() -> None:
    dtypes = ("float32", "float32")
    with Scratch(None, setting(*dtypes)) as scratch:
        scratch.add(diff(0, *dtypes))
        first = scratch.columns(0, 10)
        scratch.add(diff(1, *dtypes))
        both = scratch.columns(0, 10)
    np.testing.assert_array_equal(both[:1], first)
    np.testing.assert_array_equal(both[1], row(diff(1, *dtypes))[:10])


def test_a_cycle_without_diffs_has_no_rows() -> None:
    with Scratch(None, setting("float32", "float32")) as scratch:
        assert scratch.columns(0, 5).shape == (0, 5)
