"""What every split checks of its arguments."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedplan.data.integer import as_integer
from fedplan.errors import DataError

Indices = NDArray[np.int64]

_ALPHAS = (1e-6, 1e6)
"""Beyond these a Dirichlet draw is a single part, or the prior, to the last digit of a double."""


def check_parts(samples: int, parts: int, what: str = "parts", least: int = 1) -> None:
    """Checks that there are enough samples.

    Raises:
        DataError: there are not.
    """
    if as_integer(samples) is None:
        raise DataError(f"the number of samples must be an integer, not {samples!r}")
    if as_integer(parts) is None or parts < 1:
        raise DataError(f"a data set can be split into 1 or more {what}, not {parts!r}")
    if as_integer(least) is None or least < 1:
        raise DataError(f"a part has at least 1 sample, not {least!r}")
    if samples < parts * least:
        raise DataError(
            f"{samples} samples cannot fill {parts} {what}: each needs at least "
            + ("one" if least == 1 else str(least))
        )


def check_alpha(alpha: float) -> None:
    """Checks the concentration of a Dirichlet distribution.

    Raises:
        DataError: it is out of range.
    """
    if not _ALPHAS[0] <= alpha <= _ALPHAS[1]:
        raise DataError(f"alpha must be from {_ALPHAS[0]:g} to {_ALPHAS[1]:g}, not {alpha}")


def numbered(values: ArrayLike, what: str = "labels") -> Indices:
    """Labels, or other keys, as 0, 1, 2 … in their sorted order.

    Raises:
        DataError: they are not a list.
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise DataError(
            f"{what} must be a list, one for each sample; these have the shape {list(array.shape)}"
        )
    return np.unique(array, return_inverse=True)[1]
