"""Splits that the data has by itself."""

import numpy as np
import pytest

from fedplan.data import partition_by_key
from fedplan.errors import DataError


def test_parts_are_in_the_order_of_their_keys():
    keys = ["b", "a", "c", "a", "b"]
    assert [part.tolist() for part in partition_by_key(keys)] == [[1, 3], [0, 4], [2]]
    assert np.unique(keys).tolist() == ["a", "b", "c"]


def test_a_column_of_a_table_will_do():
    table = pytest.importorskip("pandas").DataFrame({"user": [7, 3, 7], "x": [0.1, 0.2, 0.3]})
    assert [part.tolist() for part in partition_by_key(table["user"])] == [[1], [0, 2]]


def test_no_samples_make_no_parts():
    assert partition_by_key([]) == []


def test_a_table_of_keys_is_an_error():
    with pytest.raises(DataError, match="keys must be a list"):
        partition_by_key(np.zeros((3, 2)))
