"""Plans: training as a closed list of tensor operations."""

import importlib
from typing import TYPE_CHECKING, Any

from fedplan.plan.check import Cost, Limits
from fedplan.plan.module import model_parameters, module_state
from fedplan.plan.ops import OPS
from fedplan.plan.plan import Plan
from fedplan.plan.repeated import RepeatedPlan
from fedplan.plan.signature import PlanInput, PlanOutput
from fedplan.plan.spec import PlanInputSpec, PlanOutputSpec
from fedplan.plan.tensors import from_torch, to_torch
from fedplan.plan.variants import Variants, split_variants

if TYPE_CHECKING:
    from fedplan.plan.conformance import Conformance, check_variants
    from fedplan.plan.tracing import trace
    from fedplan.plan.training import accuracy, training_plan
    from fedplan.plan.translation import make_variant, with_variants

__all__ = [
    "OPS",
    "Conformance",
    "Cost",
    "Limits",
    "Plan",
    "PlanInput",
    "PlanInputSpec",
    "PlanOutput",
    "PlanOutputSpec",
    "RepeatedPlan",
    "Variants",
    "accuracy",
    "check_variants",
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
    "Conformance": "fedplan.plan.conformance",
    "check_variants": "fedplan.plan.conformance",
    "trace": "fedplan.plan.tracing",
    "accuracy": "fedplan.plan.training",
    "training_plan": "fedplan.plan.training",
    "make_variant": "fedplan.plan.translation",
    "with_variants": "fedplan.plan.translation",
}


def __getattr__(name: str) -> Any:
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(_ON_FIRST_USE[name]), name)
