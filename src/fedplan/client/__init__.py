"""The worker's and the model owner's side: Syft, Job, PlanTrainer, and the grid's calls."""

import importlib
from typing import TYPE_CHECKING, Any

from fedplan.client.cycle.policy import ConsentPolicy, LeastPrivacy
from fedplan.client.cycle.privacy import JobPrivacy
from fedplan.client.events import (
    Accepted,
    BatchEnd,
    BatchStart,
    EpochEnd,
    EpochStart,
    Rejected,
    SecureStaged,
    TrainingEnd,
    TrainingStart,
    TrainingStop,
)
from fedplan.client.job import Job
from fedplan.client.model import SyftModel
from fedplan.client.owner.events import Events
from fedplan.client.owner.history import History
from fedplan.client.owner.why import Why
from fedplan.client.participate import Participation, participate, participate_async
from fedplan.client.syft import Syft
from fedplan.client.training.checkpoint import PlanTrainerCheckpoint
from fedplan.client.training.trainer import PlanTrainer
from fedplan.client.transport.exchange import Retry
from fedplan.federation.privacy import DpSgdSteps, ExamplePrivacy

if TYPE_CHECKING:
    from fedplan.client.owner.client import ModelCentricFLClient

__all__ = [
    "Accepted",
    "BatchEnd",
    "BatchStart",
    "ConsentPolicy",
    "DpSgdSteps",
    "EpochEnd",
    "EpochStart",
    "Events",
    "ExamplePrivacy",
    "History",
    "Job",
    "JobPrivacy",
    "LeastPrivacy",
    "ModelCentricFLClient",
    "Participation",
    "PlanTrainer",
    "PlanTrainerCheckpoint",
    "Rejected",
    "Retry",
    "SecureStaged",
    "Syft",
    "SyftModel",
    "TrainingEnd",
    "TrainingStart",
    "TrainingStop",
    "Why",
    "participate",
    "participate_async",
]


# The model owner's client translates Plans, which takes PyTorch's tracer; workers need neither.
_ON_FIRST_USE = {"ModelCentricFLClient": "fedplan.client.owner.client"}


if not TYPE_CHECKING:  # a type checker that saw this would take any name for one of the package

    def __getattr__(name: str) -> Any:
        if name not in _ON_FIRST_USE:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        return getattr(importlib.import_module(_ON_FIRST_USE[name]), name)
