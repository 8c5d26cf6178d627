"""Small trainings that several tests share, and that another process can make again."""

import functools
from typing import Any

import torch
import torch.utils.data
from torch import nn

from fedplan.client import PlanTrainer, SyftModel
from fedplan.data import DataLoader, TensorDataset
from fedplan.plan import Plan, PlanInputSpec, PlanOutputSpec, accuracy, model_parameters, trace, training_plan

SAMPLES, FEATURES, CLASSES, BATCH = 26, 6, 3, 4  # seven batches, the last one of two


def make_data(samples: int = SAMPLES) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    images = torch.randn(samples, FEATURES, generator=generator)
    return images, torch.randint(0, CLASSES, (samples,), generator=generator)


def make_module(dropout: float = 0.0) -> nn.Module:
    state = torch.get_rng_state()
    torch.manual_seed(3)
    between = nn.Dropout(dropout) if dropout else nn.Identity()
    module = nn.Sequential(nn.Linear(FEATURES, 5), nn.ReLU(), between, nn.Linear(5, CLASSES))
    torch.set_rng_state(state)
    return module


def make_model() -> SyftModel:
    return SyftModel([p.clone() for p in model_parameters(make_module())])


@functools.cache
def make_plan(
    optimizer: str = "SGD", pin_batch: bool = False, batch_size_input: bool = False, dropout: float = 0.0
) -> Plan:
    images, labels = make_data(BATCH)
    return training_plan(
        make_module(dropout),
        nn.functional.cross_entropy,
        example=(images, labels),
        optimizer=getattr(torch.optim, optimizer),
        metrics={"accuracy": accuracy},
        pin_batch=pin_batch,
        batch_size_input=batch_size_input,
    )


def make_trainer(**changes: Any) -> PlanTrainer:
    images, labels = make_data()
    arguments: dict[str, Any] = {
        "plan": make_plan(),
        "model": make_model(),
        "data": images,
        "target": labels,
        "batch_size": BATCH,
        "client_config": {"lr": 0.05},
    }
    return PlanTrainer(**{**arguments, **changes})


@functools.cache
def make_probe() -> Plan:
    """A Plan that trains nothing and returns what it was given: (sum of data, sum of targets, batch size)."""
    spec, out = PlanInputSpec, PlanOutputSpec

    def probe(
        data: torch.Tensor, target: torch.Tensor, size: torch.Tensor, w: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        return data.sum(), target.sum(), size * 1, w + 1

    return trace(
        probe,
        torch.zeros(4, 2),
        torch.zeros(4),
        torch.tensor(4),
        torch.zeros(1),
        name="probe",
        inputs=[
            spec(spec.TYPE_DATA),
            spec(spec.TYPE_TARGET),
            spec(spec.TYPE_BATCH_SIZE),
            spec(spec.TYPE_MODEL_PARAM, index=0),
        ],
        outputs=[
            out(out.TYPE_METRIC, "data"),
            out(out.TYPE_METRIC, "target"),
            out(out.TYPE_METRIC, "size"),
            out(out.TYPE_MODEL_PARAM, index=0),
        ],
    )


class Jittered(torch.utils.data.Dataset[Any]):
    """Samples with random noise from torch's global generator, as augmentation has it."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return self.images[index] + 0.1 * torch.randn(FEATURES), self.labels[index]


def make_source(kind: str) -> dict[str, Any]:
    """Training data of some kind, as arguments of a trainer."""
    images, labels = make_data()
    dataset = torch.utils.data.TensorDataset(images, labels)
    match kind:
        case "tensors":
            return {"data": images, "target": labels, "batch_size": BATCH}
        case "fedplan loader":
            data: Any = DataLoader(TensorDataset(images, labels), batch_size=BATCH)
        case "torch loader":
            data = torch.utils.data.DataLoader(dataset, batch_size=BATCH, shuffle=True)
        case "torch loader with a generator":
            data = torch.utils.data.DataLoader(
                dataset, batch_size=BATCH, shuffle=True, generator=torch.Generator().manual_seed(11)
            )
        case "torch loader with a sampler's generator":
            sampler = torch.utils.data.RandomSampler(
                dataset, replacement=True, generator=torch.Generator().manual_seed(12)
            )
            data = torch.utils.data.DataLoader(dataset, batch_size=BATCH, sampler=sampler)
        case "torch loader with augmentation":
            data = torch.utils.data.DataLoader(Jittered(images, labels), batch_size=BATCH, shuffle=True)
    return {"data": data, "target": None}


SOURCES = (
    "tensors",
    "fedplan loader",
    "torch loader",
    "torch loader with a generator",
    "torch loader with a sampler's generator",
    "torch loader with augmentation",
)
