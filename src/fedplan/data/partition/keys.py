"""Splits that the data has by itself."""

import numpy as np
from numpy.typing import ArrayLike

from fedplan.data.partition.checks import Indices, numbered


def partition_by_key(keys: ArrayLike) -> list[Indices]:
    """One part for each key: the samples of each user, hospital, device …

    Args:
        keys: key of each sample, such as a column of a table: numbers or texts, shape (samples,).

    Returns:
        For each key, in sorted order (that of `numpy.unique`), the indices of its samples, ascending.

    Raises:
        DataError: the keys are not a list.
    """
    part_of = numbered(keys, "keys")
    order = np.argsort(part_of, kind="stable")
    return np.split(order, np.cumsum(np.bincount(part_of))[:-1]) if part_of.size else []
