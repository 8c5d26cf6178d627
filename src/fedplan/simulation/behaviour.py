"""Clients that do not do as they should: they lie about their labels, or about what they have learnt."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedplan.errors import ConfigError, DataError
from fedplan.plan import RandomStream
from fedplan.simulation.chance import Chance, Purpose


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Behaviour:
    """What some clients do otherwise. A subclass overrides `targets` or `diff`.

    Attributes:
        share: the share of all clients that do so; the simulation's seed decides which.
        clients: the numbers of those that do so, in place of a share.

    Raises:
        ConfigError: both are told, or neither, or the share is not in (0, 1].
    """

    share: float | None = None
    clients: frozenset[int] | None = None

    def __post_init__(self) -> None:
        if (self.share is None) == (self.clients is None):
            raise ConfigError(f"{type(self).__name__}: tell either the share of clients, or which clients")
        if self.share is not None and not 0 < self.share <= 1:
            raise ConfigError(f"{type(self).__name__}: the share is {self.share}; it must be in (0, 1]")
        if self.clients is not None:
            object.__setattr__(self, "clients", frozenset(self.clients))

    def concerns(self, chance: Chance, client: int, number: int) -> bool:
        """Whether a client does so.

        Args:
            chance: draws it.
            client: its number.
            number: of this behaviour, among all of the simulation.
        """
        if self.clients is not None:
            return client in self.clients
        return chance.uniform(Purpose.LIAR, client=client, at=number) < (self.share or 0.0)

    def targets(self, targets: Any) -> Any:
        """What the client trains with in place of its targets, which are not changed. It measures with these.

        Raises:
            DataError: they cannot be changed.
        """
        return targets

    def diff(self, diff: Sequence[Tensor], noise: "Noise") -> list[Tensor]:
        """What the client reports in place of its diff (original − trained), which is not changed.

        Args:
            diff: the tensors that a report holds.
            noise: random numbers of this client and cycle.
        """
        del noise
        return list(diff)


@dataclasses.dataclass(frozen=True, slots=True)
class Noise:
    """Random numbers for one client in one cycle.

    Attributes:
        stream: draws them.
        client: number of the client.
        cycle: number of the cycle.
    """

    stream: RandomStream
    client: int
    cycle: int

    def normal(self, tensor: Tensor, at: int) -> Tensor:
        """Numbers in the shape and the dtype of a tensor, with mean 0 and variance 1.

        Args:
            tensor: see above.
            at: another number gives other numbers.
        """
        number = Purpose.NOISE + (at << 8)
        drawn = self.stream.normal(tensor.shape, cycle=self.cycle, step=self.client, number=number)
        return drawn.to(tensor.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LabelFlip(Behaviour):
    """Trains with wrong labels: label k of n becomes n − 1 − k. It measures the model with the right ones.

    Attributes:
        classes: how many labels there are: n.
    """

    classes: int

    def targets(self, targets: Any) -> Any:
        """See `Behaviour`."""
        if not isinstance(targets, Tensor | np.ndarray):
            raise DataError(
                "labels can be flipped where a client is (x, y) with y as a tensor or an array of integers, "
                "and not in the batches of a loader"
            )
        if isinstance(targets, Tensor) and (targets.is_floating_point() or targets.dtype == torch.bool):
            raise DataError(f"labels that can be flipped are integers, and these are of {targets.dtype}")
        return self.classes - 1 - targets


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SignFlip(Behaviour):
    """Reports the opposite of what it has learnt.

    Attributes:
        scale: by which the diff is multiplied besides.
    """

    scale: float = 1.0

    def diff(self, diff: Sequence[Tensor], noise: Noise) -> list[Tensor]:
        """See `Behaviour`."""
        del noise
        return [-self.scale * tensor if tensor.is_floating_point() else tensor for tensor in diff]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GaussianNoise(Behaviour):
    """Adds noise to what it reports.

    Attributes:
        deviation: the noise's standard deviation.
    """

    deviation: float

    def diff(self, diff: Sequence[Tensor], noise: Noise) -> list[Tensor]:
        """See `Behaviour`."""
        return [
            tensor + self.deviation * noise.normal(tensor, at) if tensor.is_floating_point() else tensor
            for at, tensor in enumerate(diff)
        ]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FreeRider(Behaviour):
    """Reports that nothing changed, and tells of as many samples as if it had trained."""

    def diff(self, diff: Sequence[Tensor], noise: Noise) -> list[Tensor]:
        """See `Behaviour`."""
        del noise
        return [torch.zeros_like(tensor) for tensor in diff]


def behaviours_of(told: Behaviour | Sequence[Behaviour] | None) -> tuple[Behaviour, ...]:
    """The behaviours that a user names.

    Raises:
        ConfigError: something else is among them.
    """
    listed = () if told is None else (told,) if isinstance(told, Behaviour) else tuple(told)
    for one in listed:
        if not isinstance(one, Behaviour):
            raise ConfigError(
                "a behaviour is a LabelFlip, a SignFlip, a GaussianNoise, a FreeRider or another Behaviour, "
                f"not a {type(one).__name__}"
            )
    return listed
