"""The grid's plain records: what the store reads and writes, and what decisions are made of.

Times are seconds since 1970 (UTC); see `store.tables` for which are of the grid's time.
"""

import dataclasses
import enum
import json
from collections.abc import Mapping
from typing import Any, Generic, Self, TypeVar

from fedplan.federation import Layout, Metrics, MetricSum, Setting, Task, part_of
from fedplan.plan.signature import Role
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
    """It has ended: its average is a checkpoint or, of a cycle of evaluation, its measurements are kept."""
    FAILED = "failed"
    """Its average was not usable; the model stayed as it was."""


class Scope(enum.StrEnum):
    """What an API token opens."""

    HOST = "host"
    """Hosting models, and having them measured."""
    READ = "read"
    """Retrieving checkpoints."""
    OBSERVE = "observe"
    """How models are doing: status, history, metrics, the dashboard."""
    ADMIN = "admin"
    """Everything."""


@dataclasses.dataclass(frozen=True, slots=True)
class ApiToken:
    """A token of a person or a program. The token itself is not stored, only its digest.

    Attributes:
        name: tells it from others.
        scopes: what it opens.
        created_at: when it was made.
        expires_at: until when it holds; None without end.
        revoked_at: when it was revoked; None when it was not.
    """

    name: str
    scopes: frozenset[Scope]
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None

    def is_good(self, now: float) -> bool:
        """Whether it opens anything."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


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
        roles: of the tensors that change, what the training does with each.
        evaluates: whether it was hosted with an evaluation Plan.
        measured: see `Setting`; None also for what an older grid hosted.
        revision: how often its configurations were changed before these.
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
    roles: tuple[Role, ...] = ()
    evaluates: bool = False
    measured: frozenset[str] | None = None
    revision: int = 0

    @property
    def named(self) -> str:
        """Name and version, for messages."""
        return f"'{self.name}' version '{self.version}'"

    @property
    def setting(self) -> Setting:
        """What its strategy is made for."""
        return Setting(
            self.server_config,
            self.client_config,
            self.layout,
            self.changing,
            self.roles,
            self.evaluates,
            self.measured,
        )

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
class HostedProtocol:
    """A Protocol: the store's number of it, and the key of its blob."""

    id: int
    blob: str


@dataclasses.dataclass(frozen=True, slots=True)
class Hosted:
    """All that was hosted under one name and version, with the configurations of one revision.

    Attributes:
        process: the FL process.
        plans: its Plans, by name.
        protocols: its Protocols, by name.
    """

    process: Process
    plans: Mapping[str, HostedPlan]
    protocols: Mapping[str, HostedProtocol]


@dataclasses.dataclass(frozen=True, slots=True)
class CycleSummary:
    """What came of a cycle beside its checkpoint.

    Attributes:
        reports: how many updates are in its average; of a cycle of evaluation, how many reports came.
        samples: how many samples their workers told of.
        metrics: by name, each metric of the workers.
    """

    reports: int
    samples: float
    metrics: Metrics

    def to_json(self) -> str:
        """As it stands in the store; sums are exact there."""
        metrics = {name: metric.to_json() for name, metric in self.metrics.items()}
        return json.dumps({"reports": self.reports, "samples": self.samples, "metrics": metrics})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` gave."""
        told = json.loads(text)
        metrics = {name: MetricSum.from_json(metric) for name, metric in told["metrics"].items()}
        return cls(told["reports"], told["samples"], metrics)


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
        summary: what else came of it; None before its end.
        task: what it is for.
        evaluators: workers, beside those that occupy places, that it has taken for evaluation alone.
        damaged: reports that were lost, for what was stored of them is damaged or missing.
        stage: name of its present stage; None of what an older grid opened.
        places: how many it has for those that train; None where its server_config alone says it.
        revision: of the configurations with which it runs; see `Process`.
        paused_at: since when it is paused, and its deadline does not come; None when it is not.
        ordered_end: whether the training ends with it, where its owner has said so or otherwise.
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
    summary: CycleSummary | None = None
    task: Task = Task.TRAINING
    evaluators: int = 0
    damaged: int = 0
    stage: str | None = None
    places: int | None = None
    revision: int = 0
    paused_at: float | None = None
    ordered_end: bool | None = None

    @property
    def is_open(self) -> bool:
        """Whether it takes workers and reports."""
        return self.phase is Phase.OPEN

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.phase in (Phase.DONE, Phase.FAILED)

    @property
    def ends_training(self) -> bool:
        """Of a model's latest cycle: whether the model is trained no more. Else another would be open."""
        return self.is_over or self.task is Task.EVALUATION


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """A report that a cycle received.

    Attributes:
        blob: key of its diff, and of what was told beside it.
        staleness: how many checkpoints the model has had since its worker received it.
    """

    blob: str
    staleness: int


@dataclasses.dataclass(frozen=True, slots=True)
class Assignment:
    """A worker's place in a cycle.

    Attributes:
        id: the store's number of it.
        cycle_id: the cycle.
        worker_id: the worker.
        reported: whether its diff has come.
        released: whether the worker has no place any more. It declined, it did not report in time, another
            worker of its subject got the place, or what was stored of its report is damaged.
        aside: whether it is one for evaluation alone in a cycle of training, which does not wait for it.
        grants: how often it was given to the worker; 0 when its key is one that was drawn at random.
        lapses: how often the grid took it, for no report had come in time, or one was damaged.
        declined: whether the worker gave it back, and has not been given it anew: then it takes no report.
        digest: how the key of the report's blob ended; None before it came, and of reports of older grids.
    """

    id: int
    cycle_id: int
    worker_id: str
    reported: bool = False
    released: bool = False
    aside: bool = False
    grants: int = 0
    lapses: int = 0
    declined: bool = False
    digest: str | None = None

    def task_in(self, cycle: Cycle) -> Task:
        """What the worker does in its cycle."""
        return Task.EVALUATION if self.aside else cycle.task


@dataclasses.dataclass(frozen=True, slots=True)
class Lease:
    """Which replica closes a cycle.

    Attributes:
        cycle_id: the cycle.
        owner: the replica that has it; None when none has.
        counter: is raised whenever it is taken or renewed. It says nothing of the time: whoever sees it
            unchanged for long enough may take the lease.
    """

    cycle_id: int
    owner: str | None
    counter: int


@dataclasses.dataclass(frozen=True, slots=True)
class Running:
    """A cycle that has not ended.

    Attributes:
        id: the cycle.
        process_id: its FL process.
        phase: open or closing.
        reported: reports received.
        task: what it is for.
        deadline: when time closes it, if it is not paused; None without a cycle_length.
        revision: see `Cycle`.
        paused_at: see `Cycle`.
    """

    id: int
    process_id: int
    phase: Phase
    reported: int
    task: Task
    deadline: float | None
    revision: int
    paused_at: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Checkpoint:
    """A stored version of a model's parameters.

    Attributes:
        id: the store's number of it; workers know it as `model_id`.
        number: 1 for the model as it was hosted.
        blob: key of the State of its tensors that change; see `Process`.
        created_at: when it was made.
        state: key of what the strategy remembers at it; None when that is nothing.
        cycle: number of the cycle that made it; None for the model as hosted, and for a copy.
        source: number of the checkpoint of which it is a copy; None when it is none.
        dropped: whether the model's owner went back to before it.
        deleted_at: when its blobs were deleted, since they were not to be kept; None when they are there.
    """

    id: int
    number: int
    blob: str
    created_at: float
    state: str | None = None
    cycle: int | None = None
    source: int | None = None
    dropped: bool = False
    deleted_at: float | None = None
