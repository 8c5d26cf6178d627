"""Tensors of a model as the federation sees them: their layout, their numbers, parts of them, changes."""

from fedplan.federation.tensors.change import apply, check_average
from fedplan.federation.tensors.layout import (
    AVERAGED_DTYPES,
    Layout,
    TensorLayout,
    Tensors,
    largest_diff,
    layout_of,
    misfit,
)
from fedplan.federation.tensors.numbers import LARGEST, Float64s, from_float64, to_float64, values_of
from fedplan.federation.tensors.part import changed_outside, others, part_of, zeros
from fedplan.federation.tensors.reach import Reach, is_within, reach_of

__all__ = [
    "AVERAGED_DTYPES",
    "LARGEST",
    "Float64s",
    "Layout",
    "Reach",
    "TensorLayout",
    "Tensors",
    "apply",
    "changed_outside",
    "check_average",
    "from_float64",
    "is_within",
    "largest_diff",
    "layout_of",
    "misfit",
    "others",
    "part_of",
    "reach_of",
    "to_float64",
    "values_of",
    "zeros",
]
