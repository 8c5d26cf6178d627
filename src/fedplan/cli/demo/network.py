"""The demo's model, its Plans, and the same training in one place."""

import asyncio
from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from fedplan.cli.demo.digits import Samples
from fedplan.client import EpochEnd, PlanTrainer, SyftModel
from fedplan.plan import Plan, accuracy, evaluation_plan, model_parameters, training_plan
from fedplan.wire.messages import EVALUATION_PLAN

TRAINING_PLAN = "training_plan"

BATCH_SIZE = 16
EPOCHS = 3
"""Epochs that a worker trains in a cycle."""

CLIENT_CONFIG = {"batch_size": BATCH_SIZE, "lr": 0.3, "max_epochs": EPOCHS}


def initial_model(seed: int) -> nn.Module:
    """The network before training: (batch, 64) → (batch, 10)."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 256), nn.Tanh(), nn.Linear(256, 10))


def make_plans(model: nn.Module, samples: Samples) -> Mapping[str, Plan]:
    """What workers run: one Plan that trains the model, one that measures it."""
    batch = samples[:BATCH_SIZE]
    example, metrics = (batch.images, batch.digits), {"accuracy": accuracy}
    return {
        TRAINING_PLAN: training_plan(model, F.cross_entropy, example=example, metrics=metrics),
        EVALUATION_PLAN: evaluation_plan(model, F.cross_entropy, example=example, metrics=metrics),
    }


def accuracy_on(samples: Samples, model: nn.Module) -> float:
    """Share of the samples that the model reads rightly, in [0, 1]."""
    with torch.no_grad():
        return float(accuracy(model(torch.from_numpy(samples.images)), torch.from_numpy(samples.digits)))


def train_centrally(
    plan: Plan, model: nn.Module, samples: Samples, cycles: int, test: Samples
) -> Sequence[float]:
    """Trains the model with the same Plan on all samples in one place. The module itself changes.

    The budget is that of the workers together: as many epochs, of batches of the same size.

    Returns:
        Accuracy on the test samples before the training, and after as many epochs as each cycle has.
    """
    accuracies = [accuracy_on(test, model)]
    trainer = PlanTrainer(
        plan=plan,
        model=SyftModel(model_parameters(model)),
        data=samples.images,
        target=samples.digits,
        epochs=EPOCHS * cycles,
        batch_size=BATCH_SIZE,
        client_config=CLIENT_CONFIG,
    )

    @trainer.on("epoch_end")
    def measure(event: EpochEnd) -> None:
        if (event.epoch + 1) % EPOCHS == 0:
            trainer.current_model.load_into(model)
            accuracies.append(accuracy_on(test, model))

    asyncio.run(trainer.start())
    return accuracies
