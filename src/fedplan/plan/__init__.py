"""Plans: training as a closed list of tensor operations."""

from fedplan.plan.check import Cost, Limits
from fedplan.plan.codec import split_variants
from fedplan.plan.ops import OPS
from fedplan.plan.plan import Plan
from fedplan.plan.signature import PlanInput, PlanOutput
from fedplan.plan.spec import PlanInputSpec, PlanOutputSpec
from fedplan.plan.tensors import from_torch, to_torch
from fedplan.plan.trace import trace
from fedplan.plan.training import accuracy, model_parameters, module_state, training_plan

__all__ = [
    "OPS",
    "Cost",
    "Limits",
    "Plan",
    "PlanInput",
    "PlanInputSpec",
    "PlanOutput",
    "PlanOutputSpec",
    "accuracy",
    "from_torch",
    "model_parameters",
    "module_state",
    "split_variants",
    "to_torch",
    "trace",
    "training_plan",
]
