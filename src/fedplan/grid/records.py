"""The grid's plain records: what the store reads and writes, and what decisions are made of.

Times are seconds since 1970 (UTC), as `time.time` gives them.
"""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from fedplan.federation import Layout, part_of
from fedplan.wire.config import ServerConfig
from fedplan.wire.state import Places

Content = TypeVar("Content", bytes, str)


class Phase(enum.StrEnum):
    """Where a cycle is in its life."""

    OPEN = "open"
    """Takes workers and reports."""
    CLOSING = "closing"
    """Takes no more reports; its average is being made."""
    DONE = "done"
    """Its average is a checkpoint."""
    FAILED = "failed"
    """Its average was not usable; the model stayed as it was."""


@dataclasses.dataclass(frozen=True, slots=True)
class Process:
    """An FL process: a hosted model name and version.

    Attributes:
        id: the store's number of it.
        name: the model's name.
        version: the model's version.
        client_config: as the model's owner wrote it.
        server_config: how its cycles run.
        layout: shape and dtype of each tensor of the model.
        averaging_plan: key of the averaging Plan's blob; None for the mean.
        changing: which of the model's tensors its Plans change; None when all may change.
        frozen: key of the State of the others, the same for all checkpoints; None when there are none.
    """

    id: int
    name: str
    version: str
    client_config: Mapping[str, Any]
    server_config: ServerConfig
    layout: Layout
    averaging_plan: str | None
    changing: Places = None
    frozen: str | None = None

    @property
    def changing_layout(self) -> Layout:
        """Shape and dtype of each tensor that is reported, averaged and stored anew in each checkpoint."""
        return part_of(self.layout, self.changing)


@dataclasses.dataclass(frozen=True, slots=True)
class Variant(Generic[Content]):
    """One form of a Plan.

    Attributes:
        content: its bytes, or the key of their blob.
        error: its greatest error against the op list, as its owner measured it; None when it was not told.
    """

    content: Content
    error: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class HostedPlan:
    """A Plan that workers run.

    Attributes:
        id: the store's number of it.
        variants: its forms, with the keys of their blobs.
        missing: for variants that it cannot have, the reason, as its owner's fedplan told it.
    """

    id: int
    variants: Mapping[str, Variant[str]]
    missing: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class NewPlan(Generic[Content]):
    """A Plan that is about to be hosted; see `HostedPlan`."""

    variants: Mapping[str, Variant[Content]]
    missing: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class HostedProtocol:
    """A Protocol: the store's number of it, and the key of its blob."""

    id: int
    blob: str


@dataclasses.dataclass(frozen=True, slots=True)
class Hosted:
    """All that was hosted under one name and version. None of it changes.

    Attributes:
        process: the FL process.
        plans: its Plans, by name.
        protocols: its Protocols, by name.
    """

    process: Process
    plans: Mapping[str, HostedPlan]
    protocols: Mapping[str, HostedProtocol]


@dataclasses.dataclass(frozen=True, slots=True)
class NewProcess(Generic[Content]):
    """An FL process that passed all checks and is about to be hosted: with bytes, then with keys of blobs.

    Attributes:
        name: the model's name.
        version: the model's version.
        client_config: as the model's owner wrote it.
        server_config: how its cycles run.
        layout: of the model's tensors.
        changing: see `Process`.
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
    model: Content
    frozen: Content | None
    averaging_plan: Content | None
    plans: Mapping[str, NewPlan[Content]]
    protocols: Mapping[str, Content]


@dataclasses.dataclass(frozen=True, slots=True)
class Cycle:
    """One round of training.

    Attributes:
        id: the store's number of it.
        process_id: its FL process.
        number: 1 for the first of the process.
        phase: see `Phase`.
        checkpoint_id: the checkpoint that its workers start from.
        opened_at: when it opened.
        deadline: when time closes it; None without a cycle_length.
        occupied: places taken: workers that still train and workers that reported.
        reported: reports received.
        closed_at: when it ended; None before.
        failure: why it made no checkpoint, if it failed.
    """

    id: int
    process_id: int
    number: int
    phase: Phase
    checkpoint_id: int
    opened_at: float
    deadline: float | None = None
    occupied: int = 0
    reported: int = 0
    closed_at: float | None = None
    failure: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Assignment:
    """A worker's place in a cycle.

    Attributes:
        id: the store's number of it.
        cycle_id: the cycle.
        worker_id: the worker.
        reported: whether its diff has come.
        released: whether its place was given up, because the cycle's time passed without its report.
    """

    id: int
    cycle_id: int
    worker_id: str
    reported: bool = False
    released: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Running:
    """A cycle that has reports and has not ended.

    Attributes:
        id: the cycle.
        process_id: its FL process.
        phase: open or closing.
        reported: reports received.
    """

    id: int
    process_id: int
    phase: Phase
    reported: int


@dataclasses.dataclass(frozen=True, slots=True)
class Checkpoint:
    """A stored version of a model's parameters.

    Attributes:
        id: the store's number of it; workers know it as `model_id`.
        number: 1 for the model as it was hosted.
        blob: key of the State of its tensors that change; see `Process`.
        created_at: when it was made.
    """

    id: int
    number: int
    blob: str
    created_at: float
