"""Integers as users have them: Python's own, NumPy's, and tensors of one integer."""

import operator
from typing import Any

import numpy as np
from torch import Tensor


def as_integer(value: Any) -> int | None:
    """The integer that a value is; None when it is none.

    A bool is no integer, and neither is a float, whatever its value.
    """
    if isinstance(value, bool) or (isinstance(value, Tensor | np.ndarray) and _holds_bools(value)):
        return None
    try:
        return operator.index(value)
    except (TypeError, ValueError, RuntimeError):  # no integer; several of them; one without a value
        return None


def _holds_bools(value: Any) -> bool:
    return str(value.dtype).removeprefix("torch.") == "bool"
