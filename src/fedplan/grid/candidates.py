"""Models that passed all checks and are about to be hosted: with bytes, then with the keys of their blobs."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Generic

from fedplan.federation import Layout
from fedplan.grid.records import Content, Variant
from fedplan.plan.signature import Role
from fedplan.wire.config import ServerConfig
from fedplan.wire.state import Places


@dataclasses.dataclass(frozen=True, slots=True)
class NewPlan(Generic[Content]):
    """A Plan that is about to be hosted; see `HostedPlan`."""

    variants: Mapping[str, Variant[Content]]
    missing: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class NewProcess(Generic[Content]):
    """An FL process that is about to be hosted.

    Attributes:
        name: the model's name.
        version: the model's version.
        client_config: as the model's owner wrote it.
        server_config: how its cycles run.
        layout: of the model's tensors.
        changing: see `Process`.
        roles: see `Process`.
        measured: see `Process`.
        model: the State of the tensors that change.
        frozen: the State of the others, if there are any.
        averaging_plan: the averaging Plan, if it has one.
        plans: its Plans, by name.
        protocols: for each Protocol's name, the Protocol.
    """

    name: str
    version: str
    client_config: Mapping[str, Any]
    server_config: ServerConfig
    layout: Layout
    changing: Places
    roles: tuple[Role, ...]
    measured: frozenset[str] | None
    model: Content
    frozen: Content | None
    averaging_plan: Content | None
    plans: Mapping[str, NewPlan[Content]]
    protocols: Mapping[str, Content]
