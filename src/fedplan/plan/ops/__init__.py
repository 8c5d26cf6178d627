"""The op table: every operation that a Plan may hold, and all that is known of each."""

from fedplan.plan.ops.dtypes import DTYPES, dtype_name
from fedplan.plan.ops.op import Argument, Kind, Op, Trait, overload
from fedplan.plan.ops.table import EXECUTOR_OPS, OPS, lookup, row

__all__ = [
    "DTYPES",
    "EXECUTOR_OPS",
    "OPS",
    "Argument",
    "Kind",
    "Op",
    "Trait",
    "dtype_name",
    "lookup",
    "overload",
    "row",
]
