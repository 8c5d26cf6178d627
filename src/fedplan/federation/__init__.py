"""Averaging: an update as a commutative monoid, averaging rules, averaging plans, server optimizers."""

from fedplan.federation.layout import AVERAGED_DTYPES, Layout, TensorLayout, largest_diff, layout_of, misfit
from fedplan.federation.part import changed_outside, for_part, others, part_of
from fedplan.federation.plans import averaging_plan, diffs_of_plan, plan_shapes
from fedplan.federation.reach import Reach, is_within, reach_of
from fedplan.federation.rule import Accumulated, AveragingRule, Tensors, check_average, mean
from fedplan.federation.server import ServerOptimizer, apply, plain

__all__ = [
    "AVERAGED_DTYPES",
    "Accumulated",
    "AveragingRule",
    "Layout",
    "Reach",
    "ServerOptimizer",
    "TensorLayout",
    "Tensors",
    "apply",
    "averaging_plan",
    "changed_outside",
    "check_average",
    "diffs_of_plan",
    "for_part",
    "is_within",
    "largest_diff",
    "layout_of",
    "mean",
    "misfit",
    "others",
    "part_of",
    "plain",
    "plan_shapes",
    "reach_of",
]
