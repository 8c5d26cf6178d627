"""What clients do in a cycle, and what comes of it: the words between the rounds and the engines."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import torch

from fedplan.client.model import SyftModel
from fedplan.federation import Reach, Task, Tensors, Update, reach_of
from fedplan.federation.secure import Manifest
from fedplan.simulation.availability import Availability
from fedplan.simulation.behaviour import Behaviour
from fedplan.simulation.chance import Chance
from fedplan.simulation.deployment import Deployment
from fedplan.simulation.population import Population
from fedplan.simulation.states import ClientState


@dataclasses.dataclass(frozen=True, slots=True)
class Experiment:
    """What stays the same in all cycles of a simulation.

    Attributes:
        deployment: the model, its Plans and its configurations.
        population: the clients' data.
        chance: all draws.
        behaviours: what some clients do otherwise.
        report_format: in what clients report; None for what the model's owner prefers.
        device: where Plans run.
    """

    deployment: Deployment
    population: Population
    chance: Chance
    behaviours: tuple[Behaviour, ...]
    report_format: str | None
    device: torch.device


def identity_of(experiment: Experiment, cohort: int, availability: Availability) -> dict[str, Any]:
    """What decides the bits of a simulation, by name: with anything else it is another one.

    The engine is not among it: a run that is gone on with keeps the bits of its own, whatever it was.
    """
    return {
        "model, Plans or configurations": experiment.deployment.identity,
        "seed": experiment.chance.stream.to_json(),
        "population": experiment.population.count,
        "cohort": cohort,
        "availability": repr(availability),
        "behaviour": [repr(behaviour) for behaviour in experiment.behaviours],
        "report format": experiment.report_format,
        "device": experiment.device.type,
        "PyTorch": torch.__version__,
    }


@dataclasses.dataclass(frozen=True)
class Work:
    """What some clients do that received the same model in the same cycle.

    Attributes:
        experiment: what stays the same.
        task: whether they train, or only measure the model.
        cycle: number of the cycle in which they have their places.
        changing: what changes of the model, as they receive it.
        staleness: how many checkpoints the model has had since.
        clients: their numbers, no one twice.
        state_of: what each remembers.
        manifest: of the secure round in which they report; None where they report their diffs.
    """

    experiment: Experiment
    task: Task
    cycle: int
    changing: Tensors
    staleness: int
    clients: tuple[int, ...]
    state_of: Callable[[int], ClientState]
    manifest: Manifest | None = None

    @functools.cached_property
    def model(self) -> SyftModel:
        """The model that they receive."""
        return self.experiment.deployment.whole(self.changing)

    @functools.cached_property
    def reach(self) -> Reach:
        """How far the values of what changes reach."""
        return reach_of(self.changing)


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """A client's report, as a grid would have received it.

    Attributes:
        client: its number.
        update: what is in it; None when it was refused.
        bytes: how long it is.
        state: what the client remembers if it is taken.
        refusal: why it was refused.
    """

    client: int
    update: Update | None
    bytes: int
    state: ClientState
    refusal: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Sent:
    """What is left of a report when it has been added up.

    Attributes:
        client: see `Report`, like the others.
    """

    client: int
    bytes: int
    state: ClientState
    refusal: str | None = None
