"""A model with a private head and a private batch norm; run as a program, a worker that trains it:

`python -m tests.client.cycle.private.personal URL FOLDER CYCLES`
"""

import sys

import torch
from torch import Tensor, nn

from fedplan.client import participate
from fedplan.plan import Plan, model_parameters, training_plan

BATCH, LR = 8, 0.25
PRIVATE = (2, 3, 4, 5, 6, 7)
"""Places of the head's and the norm's tensors; 0 and 1 are the body's."""

CONFIG = {"name": "personal", "version": "1.0", "batch_size": BATCH, "lr": LR}


class Personal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        state = torch.get_rng_state()
        torch.manual_seed(3)
        self.body, self.norm, self.head = nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)
        torch.set_rng_state(state)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.body(x)).relu())


def data_of(worker: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(worker)
    return torch.randn(24, 6, generator=generator), torch.randint(3, (24,), generator=generator)


def make_plan() -> Plan:
    return training_plan(
        Personal(), nn.functional.cross_entropy, example=data_of(0), private=["head.*", "norm.*"]
    )


def trained(plan: Plan, worker: int, params: list[Tensor]) -> list[Tensor]:
    """What a cycle makes of a model."""
    for x, y in zip(*(part.split(BATCH) for part in data_of(worker)), strict=True):
        params = plan(x, y, torch.tensor([LR]), *params)[1:]
    return params


def by_hand(plan: Plan, workers: int, cycles: int) -> tuple[list[Tensor], list[list[Tensor]]]:
    """The grid's model after so many cycles, and each worker's as it trained it last."""
    shared = model_parameters(Personal())
    own = [shared for _ in range(workers)]
    for _ in range(cycles):
        starts = [
            [mine if place in PRIVATE else s for place, (mine, s) in enumerate(zip(o, shared, strict=True))]
            for o in own
        ]
        own = [trained(plan, worker, start) for worker, start in enumerate(starts)]
        means = [torch.stack(tensors).mean(0) for tensors in zip(*own, strict=True)]
        shared = [
            s if place in PRIVATE else m for place, (s, m) in enumerate(zip(shared, means, strict=True))
        ]
    return shared, own


if __name__ == "__main__":
    url, folder, cycles = sys.argv[1:]
    participate(
        url, "personal", "1.0", *data_of(0), verbose=True, cycles=int(cycles), wait=30.0, state=folder
    )
