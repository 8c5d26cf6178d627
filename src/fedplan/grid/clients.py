"""Clients: which kinds there are, what each can train, and in what it counts its speed."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Self

from fedplan.federation import Strategy
from fedplan.grid.records import HostedPlan, Process
from fedplan.wire.messages import EVALUATION_PLAN


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """A client that is known.

    Attributes:
        name: what it is called.
        variant: the variant of Plans that it loads.
        config: what a client_config must hold; it cannot read one without.
        mbit: how many Mbit/s its unit of speed is.
        tells: whether it can tell a summary of its training.
        secures: whether it can report by secure aggregation.
        times_rejections: whether it reads no rejection over a WebSocket that names no time to ask again.
    """

    name: str
    variant: str
    config: tuple[str, ...] = ()
    mbit: float = 1.0
    tells: bool = False
    secures: bool = False
    times_rejections: bool = False


FEDPLAN = Kind("fedplan", "list", tells=True, secures=True)
KOTLIN_SYFT = Kind("KotlinSyft", "torchscript", ("batch_size", "max_updates"), mbit=1 / 128)  # KB/s
SWIFT_SYFT = Kind(
    "SwiftSyft",
    "torchscript",
    ("batch_size", "lr", "max_updates"),
    mbit=8.0,  # MB/s
    times_rejections=True,
)
SYFT_JS = Kind("syft.js", "tfjs")

KINDS = (FEDPLAN, KOTLIN_SYFT, SWIFT_SYFT, SYFT_JS)


@dataclasses.dataclass(frozen=True, slots=True)
class Client:
    """The client that a worker is, as far as it is known.

    Attributes:
        recognised: its kind, by what its connection tells.
        said: the variant of Plans that it says it loads.
    """

    recognised: Kind | None = None
    said: str | None = None

    def loading(self, variant: str | None) -> Self:
        """The client, which says what it loads, if it does."""
        return dataclasses.replace(self, said=variant)

    @property
    def kind(self) -> Kind | None:
        """Its kind; one that loads something else than its kind does is another."""
        found = self.recognised
        return None if found and self.said not in {None, found.variant} else found

    @property
    def variant(self) -> str | None:
        """The variant of Plans that it loads, if that is known."""
        return self.said or (self.kind.variant if self.kind else None)

    def mbits(self, speed: float | None) -> float | None:
        """A speed that it tells, in Mbit/s."""
        return speed if speed is None or self.kind is None else speed * self.kind.mbit


def plans_for(plans: Mapping[str, HostedPlan], *, tells: bool) -> Mapping[str, HostedPlan]:
    """The Plans that a client is given: the evaluation Plan only if it can tell what it measured."""
    return {name: plan for name, plan in plans.items() if tells or name != EVALUATION_PLAN}


def obstacles(
    process: Process,
    plans: Mapping[str, HostedPlan],
    strategy: Strategy,
    variant: str | None,
    kind: Kind | None,
    *,
    tells: bool,
    secures: bool,
) -> Sequence[str]:
    """Why a client cannot train a model; nothing when it can, or when nothing is known of it.

    Args:
        process: the model.
        plans: its Plans, by name.
        strategy: how its reports are averaged.
        variant: the variant of Plans that the client loads.
        kind: which client it is.
        tells: whether it can tell a summary of its training.
        secures: whether it can report by secure aggregation.
    """
    without = {
        name: plan.missing.get(variant)
        for name, plan in plans_for(plans, tells=tells).items()
        if variant is not None and variant not in plan.variants
    }
    unset = [key for key in (kind.config if kind else ()) if process.client_config.get(key) is None]
    untold = () if tells else sorted(strategy.needs)
    asks = process.server_config.secure_aggregation is not None
    bare = ["reports are added up by secure aggregation, and it does not say that it can do so"]
    return [
        *(
            f"the Plan '{name}' is not hosted as {variant}" + (f": {why}" if why else "")
            for name, why in without.items()
        ),
        *(f"the client_config has no {key}" for key in unset),
        *(bare if asks and not secures else ()),
        *(f"the strategy {strategy.name} needs the {need}, which it cannot tell" for need in untold),
    ]
