"""Model-centric federated learning: training shipped to workers as data, not as code.

The public names of the package, in one list. They are loaded when they are first used, so that the command
line and programs that need only some of them start quickly.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fedplan import errors
from fedplan.errors import FedplanError
from fedplan.version import __version__

if TYPE_CHECKING:
    from fedplan.client import (
        Accepted,
        BatchEnd,
        BatchStart,
        EpochEnd,
        EpochStart,
        History,
        Job,
        ModelCentricFLClient,
        Participation,
        PlanTrainer,
        PlanTrainerCheckpoint,
        Rejected,
        Retry,
        Syft,
        SyftModel,
        TrainingEnd,
        TrainingStart,
        TrainingStop,
        participate,
        participate_async,
    )
    from fedplan.data import (
        BatchSampler,
        Compose,
        DataLoader,
        Dataset,
        Normalize,
        OneHot,
        RandomSampler,
        Sampler,
        SequentialSampler,
        TensorDataset,
        ToTensor,
        Transform,
        collate,
        partition_dirichlet,
        partition_iid,
        partition_shards,
    )
    from fedplan.plan import (
        ControlVariates,
        Cost,
        DynamicRegularizer,
        Limits,
        Plan,
        PlanInput,
        PlanInputSpec,
        PlanOutput,
        PlanOutputSpec,
        RandomStream,
        StepContext,
        accuracy,
        evaluation_plan,
        model_parameters,
        module_state,
        trace,
        training_plan,
        with_variants,
    )
    from fedplan.wire import (
        MetricMean,
        State,
        Summary,
    )

_HOME = {
    "Accepted": "fedplan.client",
    "BatchEnd": "fedplan.client",
    "BatchStart": "fedplan.client",
    "EpochEnd": "fedplan.client",
    "EpochStart": "fedplan.client",
    "History": "fedplan.client",
    "Job": "fedplan.client",
    "ModelCentricFLClient": "fedplan.client",
    "Participation": "fedplan.client",
    "PlanTrainer": "fedplan.client",
    "PlanTrainerCheckpoint": "fedplan.client",
    "Rejected": "fedplan.client",
    "Retry": "fedplan.client",
    "Syft": "fedplan.client",
    "SyftModel": "fedplan.client",
    "TrainingEnd": "fedplan.client",
    "TrainingStart": "fedplan.client",
    "TrainingStop": "fedplan.client",
    "participate": "fedplan.client",
    "participate_async": "fedplan.client",
    "BatchSampler": "fedplan.data",
    "Compose": "fedplan.data",
    "DataLoader": "fedplan.data",
    "Dataset": "fedplan.data",
    "Normalize": "fedplan.data",
    "OneHot": "fedplan.data",
    "RandomSampler": "fedplan.data",
    "Sampler": "fedplan.data",
    "SequentialSampler": "fedplan.data",
    "TensorDataset": "fedplan.data",
    "ToTensor": "fedplan.data",
    "Transform": "fedplan.data",
    "collate": "fedplan.data",
    "partition_dirichlet": "fedplan.data",
    "partition_iid": "fedplan.data",
    "partition_shards": "fedplan.data",
    "ControlVariates": "fedplan.plan",
    "Cost": "fedplan.plan",
    "DynamicRegularizer": "fedplan.plan",
    "Limits": "fedplan.plan",
    "Plan": "fedplan.plan",
    "PlanInput": "fedplan.plan",
    "PlanInputSpec": "fedplan.plan",
    "PlanOutput": "fedplan.plan",
    "PlanOutputSpec": "fedplan.plan",
    "RandomStream": "fedplan.plan",
    "StepContext": "fedplan.plan",
    "accuracy": "fedplan.plan",
    "evaluation_plan": "fedplan.plan",
    "model_parameters": "fedplan.plan",
    "module_state": "fedplan.plan",
    "trace": "fedplan.plan",
    "training_plan": "fedplan.plan",
    "with_variants": "fedplan.plan",
    "MetricMean": "fedplan.wire",
    "State": "fedplan.wire",
    "Summary": "fedplan.wire",
}

_PACKAGES = ("client", "data", "federation", "grid", "plan", "wire")
"""What more there is of each: loaded on first use too."""

__all__ = [
    "Accepted",
    "BatchEnd",
    "BatchSampler",
    "BatchStart",
    "Compose",
    "ControlVariates",
    "Cost",
    "DataLoader",
    "Dataset",
    "DynamicRegularizer",
    "EpochEnd",
    "EpochStart",
    "FedplanError",
    "History",
    "Job",
    "Limits",
    "MetricMean",
    "ModelCentricFLClient",
    "Normalize",
    "OneHot",
    "Participation",
    "Plan",
    "PlanInput",
    "PlanInputSpec",
    "PlanOutput",
    "PlanOutputSpec",
    "PlanTrainer",
    "PlanTrainerCheckpoint",
    "RandomSampler",
    "RandomStream",
    "Rejected",
    "Retry",
    "Sampler",
    "SequentialSampler",
    "State",
    "StepContext",
    "Summary",
    "Syft",
    "SyftModel",
    "TensorDataset",
    "ToTensor",
    "TrainingEnd",
    "TrainingStart",
    "TrainingStop",
    "Transform",
    "__version__",
    "accuracy",
    "collate",
    "errors",
    "evaluation_plan",
    "model_parameters",
    "module_state",
    "participate",
    "participate_async",
    "partition_dirichlet",
    "partition_iid",
    "partition_shards",
    "trace",
    "training_plan",
    "with_variants",
]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"fedplan.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'fedplan' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value  # the next use finds it directly
    return value


def __dir__() -> list[str]:
    return __all__
