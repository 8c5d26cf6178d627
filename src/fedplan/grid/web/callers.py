"""Who asks: which client sends a message, what it can train, and in what it counts its speed.

A client downloads and loads every Plan of a cycle as soon as it is in, and does not say before as what it
will ask for them. So it is recognised, by the User-Agent of the request or of the WebSocket's handshake; one
that sends `receive_operations_as` with its cycle request has said it. Nothing is withheld from a client that
is not recognised.

How sure the rows of `KINDS` are:

- fedplan: certain; its client sends this over HTTP and WebSocket.
- KotlinSyft: read in its source and in OkHttp's (4.3), which names itself in requests and handshakes when
  nobody else did. An app that runs syft.js under React Native on Android uses OkHttp too; it would be taken
  for KotlinSyft, and should say `receive_operations_as`.
- SwiftSyft: read in its source: URLSession for both, and nothing set. That URLSession names CFNetwork behind
  the app's own name is widely seen for requests; for handshakes it was not observed.
- syft.js in browsers: observed with Chromium, requests and handshakes; all browsers and web views begin so.
- syft.js in Node: observed with Node 20 (`node`) and node-fetch. Handshakes of the package ws name nobody.

PySyft's worker (read in its source: TorchScript, KB/s) has no row. It asks for a cycle over WebSocket only,
and the handshakes of its library name nobody. They hold an Origin, so an Origin makes no browser.
"""

import dataclasses
import re
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
        user_agent: how its User-Agent begins, as a pattern.
        variant: the variant of Plans that it loads.
        config: what a client_config must hold; it cannot read one without.
        mbit: how many Mbit/s its unit of speed is.
        tells: whether it can tell a summary of its training.
    """

    name: str
    user_agent: str
    variant: str
    config: tuple[str, ...] = ()
    mbit: float = 1.0
    tells: bool = False


KINDS = (
    Kind("fedplan", r"fedplan/", "list", tells=True),
    Kind("KotlinSyft", r"okhttp/", "torchscript", ("batch_size", "max_updates"), mbit=1 / 128),  # KB/s
    Kind(
        "SwiftSyft", r"\S+ CFNetwork/", "torchscript", ("batch_size", "lr", "max_updates"), mbit=8.0
    ),  # MB/s
    Kind("syft.js", r"Mozilla/|node$|node-fetch/", "tfjs"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a message, as far as its connection tells.

    Attributes:
        token: the bearer token.
        user_agent: what the client calls itself.
        said: the variant of Plans that it says it loads.
    """

    token: str | None = None
    user_agent: str = ""
    said: str | None = None

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Self:
        """The caller by the headers of its request or handshake."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        bearer = token.strip() or None if scheme.lower() == "bearer" else None
        return cls(bearer, headers.get("user-agent", ""))

    def loading(self, variant: str | None) -> Self:
        """The caller, which says what it loads, if it does."""
        return dataclasses.replace(self, said=variant)

    @property
    def kind(self) -> Kind | None:
        """The client that it is, if that is known; one that loads something else is another."""
        found = next((kind for kind in KINDS if re.match(kind.user_agent, self.user_agent)), None)
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
) -> Sequence[str]:
    """Why a client cannot train a model; nothing when it can, or when nothing is known of it.

    Args:
        process: the model.
        plans: its Plans, by name.
        strategy: how its reports are averaged.
        variant: the variant of Plans that the client loads.
        kind: which client it is.
        tells: whether it can tell a summary of its training.
    """
    without = {
        name: plan.missing.get(variant)
        for name, plan in plans_for(plans, tells=tells).items()
        if variant is not None and variant not in plan.variants
    }
    unset = [key for key in (kind.config if kind else ()) if process.client_config.get(key) is None]
    untold = () if tells else sorted(strategy.needs)
    return [
        *(
            f"the Plan '{name}' is not hosted as {variant}" + (f": {why}" if why else "")
            for name, why in without.items()
        ),
        *(f"the client_config has no {key}" for key in unset),
        *(f"the strategy {strategy.name} needs the {need}, which it cannot tell" for need in untold),
    ]
