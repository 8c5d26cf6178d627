"""Numbers that users give: epochs, batches, samples in a batch, seconds."""

import numbers
from typing import Any

from fedplan.data.integer import as_integer
from fedplan.errors import ConfigError


def positive_integer(value: Any, name: str) -> int:
    """A count, of any type that stands for an integer (`numpy.int64`, for one), as an int.

    Raises:
        ConfigError: it is no integer from 1; a bool is none.
    """
    number = as_integer(value)
    if number is None or number < 1:
        raise ConfigError(f"{name} must be a positive integer, not {value!r}")
    return number


def positive_seconds(value: Any, name: str) -> float:
    """A time as a float.

    Raises:
        ConfigError: it is no number greater than 0.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not float(value) > 0:
        raise ConfigError(f"{name} must be a number of seconds greater than 0, not {value!r}")
    return float(value)
