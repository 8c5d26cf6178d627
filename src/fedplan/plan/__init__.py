"""Plans: training as a closed list of tensor operations."""

import importlib
from typing import TYPE_CHECKING, Any

from fedplan.plan.dp_sgd import DpSgd
from fedplan.plan.message.tensors import from_torch, to_torch
from fedplan.plan.ops import OPS
from fedplan.plan.plan import Plan
from fedplan.plan.random import RandomStream
from fedplan.plan.run.check import Cost, Limits
from fedplan.plan.run.repeated import RepeatedPlan
from fedplan.plan.signature import PlanInput, PlanOutput, Role
from fedplan.plan.spec import PlanInputSpec, PlanOutputSpec
from fedplan.plan.tracing.module import model_parameters, module_state
from fedplan.plan.variants.variants import Variants, split_variants

if TYPE_CHECKING:
    from fedplan.plan.tracing.context import StepContext
    from fedplan.plan.tracing.drift import ControlVariates, DynamicRegularizer
    from fedplan.plan.tracing.evaluation import evaluation_plan
    from fedplan.plan.tracing.function import trace
    from fedplan.plan.tracing.training import accuracy, training_plan
    from fedplan.plan.variants.conformance import Conformance, check_variants
    from fedplan.plan.variants.make import make_variant, with_variants

__all__ = [
    "OPS",
    "Conformance",
    "ControlVariates",
    "Cost",
    "DpSgd",
    "DynamicRegularizer",
    "Limits",
    "Plan",
    "PlanInput",
    "PlanInputSpec",
    "PlanOutput",
    "PlanOutputSpec",
    "RandomStream",
    "RepeatedPlan",
    "Role",
    "StepContext",
    "Variants",
    "accuracy",
    "check_variants",
    "evaluation_plan",
    "from_torch",
    "make_variant",
    "model_parameters",
    "module_state",
    "split_variants",
    "to_torch",
    "trace",
    "training_plan",
    "with_variants",
]

# PyTorch's tracer takes a third of a second to import; workers and grids never need it and what stands on it.
_ON_FIRST_USE = {
    "Conformance": "fedplan.plan.variants.conformance",
    "check_variants": "fedplan.plan.variants.conformance",
    "StepContext": "fedplan.plan.tracing.context",
    "ControlVariates": "fedplan.plan.tracing.drift",
    "DynamicRegularizer": "fedplan.plan.tracing.drift",
    "evaluation_plan": "fedplan.plan.tracing.evaluation",
    "trace": "fedplan.plan.tracing.function",
    "accuracy": "fedplan.plan.tracing.training",
    "training_plan": "fedplan.plan.tracing.training",
    "make_variant": "fedplan.plan.variants.make",
    "with_variants": "fedplan.plan.variants.make",
}


if not TYPE_CHECKING:  # a type checker that saw this would take any name for one of the package

    def __getattr__(name: str) -> Any:
        if name not in _ON_FIRST_USE:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        return getattr(importlib.import_module(_ON_FIRST_USE[name]), name)
