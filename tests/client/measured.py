"""A model that its workers measure: data, Plans, and what they must find."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedplan.client import ModelCentricFLClient
from fedplan.plan import accuracy, evaluation_plan, training_plan

BATCH, LR = 4, 0.1


def data_of(worker: int, samples: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(worker)
    x = torch.randn(samples, 5, generator=generator)
    return x, (x.sum(1) > 0).long()


def net() -> nn.Linear:
    torch.manual_seed(3)
    return nn.Linear(5, 2)


TRAINING = training_plan(net(), F.cross_entropy, example=data_of(0, 4), metrics={"accuracy": accuracy})
EVALUATION = evaluation_plan(net(), F.cross_entropy, example=data_of(0, 4), metrics={"accuracy": accuracy})


async def host(owner: ModelCentricFLClient, name: str, **server: Any) -> None:
    config = {"name": name, "version": "1.0", "batch_size": BATCH, "lr": LR}
    plans = {"training_plan": TRAINING, "evaluation_plan": EVALUATION}
    await owner.host_federated_training_async(net(), plans, config, server, variants=[])


def measured(parameters: list[Tensor], *worker: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Loss and accuracy of a model on the data of some workers, all samples alike."""
    x, y = (torch.cat(parts) for parts in zip(*worker, strict=True))
    output = x @ parameters[0].T + parameters[1]
    return float(F.cross_entropy(output, y)), float(accuracy(output, y))
