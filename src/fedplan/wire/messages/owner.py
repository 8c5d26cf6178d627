"""Messages of model owners: hosting, checkpoints, how models are doing and what came of their cycles."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from fedplan.wire.messages.message import Reply, Request, StorableText, Text

MOST_NAMES = 100
"""How many Plans, and how many Protocols, a model is hosted with at most."""


class HostTrainingRequest(Request):
    """A model to host. Binaries are hex of protobuf: a State, Plans, Protocols."""

    model: str
    plans: dict[str, str] = Field(min_length=1, max_length=MOST_NAMES)
    protocols: dict[str, str] = Field(default_factory=dict, max_length=MOST_NAMES)
    averaging_plan: str | None = None
    client_config: dict[str, Any]
    server_config: dict[str, Any]


class RetrieveRequest(Request):
    """Asks for a checkpoint of a model: its number, 1 being the model as hosted, or `latest` or `best`.

    A worker may have the one that its cycle starts from, and shows its place with the other two.
    """

    name: StorableText
    version: StorableText | None = None
    checkpoint: str = "latest"
    worker_id: str | None = None
    request_key: str | None = None


class RetrievePlanRequest(Request):
    """Asks for a Plan of a model, as the list of its operations."""

    name: StorableText
    version: StorableText | None = None
    plan: StorableText = "training_plan"


class CycleStatus(Reply):
    """One cycle, as its model's owner sees it."""

    number: int
    """1 is the model's first cycle."""
    task: Literal["training", "evaluation"] = "training"
    """`evaluation`: its workers only measure the model, and it makes no checkpoint."""
    phase: Literal["open", "closing", "done", "failed"]
    """`closing`: no more reports are taken, the average is being made. `failed`: see `failure`."""
    accepted: int
    """Workers that are in the cycle: those that still train and those that have reported."""
    reported: int
    """Reports received."""
    damaged: int | None = None
    """Reports that were lost, for what the grid had stored of them was damaged; not among `reported`."""
    needed: int
    """Reports without which the cycle is not averaged."""
    limit: int | None = None
    """Reports that close the cycle at once; absent when only time, or the last worker, closes it."""
    stage: Literal["gather", "keys", "shares", "reports", "unmasking"] | None = None
    """Of an open cycle with secure aggregation, its present stage, which `closes_at` ends at the latest."""
    opened_at: datetime
    closes_at: datetime | None = None
    """When time closes the cycle; absent without a cycle_length, and once it is closed."""
    closed_at: datetime | None = None
    failure: str | None = None
    """Why the cycle made no checkpoint."""


class CheckpointStatus(Reply):
    """One stored version of a model's parameters."""

    number: int
    """1 is the model as it was hosted."""
    created_at: datetime


class VariantStatus(Reply):
    """One form in which a Plan is served."""

    variant: str
    """`list`, `torchscript` or `tfjs`."""
    error: float | None = None
    """Greatest error against the op list, relative where numbers exceed 1; absent when unknown."""


class PlanStatus(Reply):
    """A hosted Plan."""

    name: str
    variants: list[VariantStatus]


class WithheldStatus(Reply):
    """A kind of client that is rejected, since it cannot train the model."""

    client: str
    """Such as `KotlinSyft`."""
    why: list[str]

    def __str__(self) -> str:
        return f"{self.client}: {'; '.join(self.why)}"


class PrivacyStatus(Reply):
    """How much of a model's privacy is spent. The unit is one worker, whose reports may be zeros."""

    epsilon: float
    """Of all cycles that have ended, at `delta`. Nothing is taken off for sampling."""
    delta: float
    max_epsilon: float | None = None
    """A cycle that would exceed it does not open; absent without one."""
    cycles: int
    """How many cycles have spent something; a failed one is among them."""
    ended: str | None = None
    """Why no further cycle opens, if that is so."""


class ModelStatus(Reply):
    """One FL process: a hosted model name and version."""

    name: Text
    version: Text
    phase: Literal["training", "finished"]
    """`finished`: its num_cycles are done; it is trained no more. It may still be measured; see `cycle`."""
    num_cycles: int | None = None
    """Absent when no number of cycles ends the training."""
    stop: str | None = None
    """What may end the training before; absent when nothing does."""
    cycle: CycleStatus
    """The cycle that is open or closing; of a finished model the last one."""
    checkpoints: list[CheckpointStatus]
    """Newest first, the newest 100; `latest` is the first of them."""
    last_failure: str | None = None
    """Why the latest failed cycle, whichever that was, made no checkpoint."""
    failed_cycle: int | None = None
    """Number of that cycle."""
    paused: bool | None = None
    """True while its owner lets no new worker join; its cycle is then closed by no time."""
    fault: str | None = None
    """Why this grid cannot run its cycles, if it cannot; another replica may."""
    plans: list[PlanStatus] = Field(default_factory=list)
    """What workers download and run."""
    withheld: list[WithheldStatus] = Field(default_factory=list)
    """Clients that cannot take part."""
    privacy: PrivacyStatus | None = None
    """Of a model with `privacy` in its server_config."""


class StatusRequest(Request):
    """Asks how models are doing: those of one name, or all."""

    name: StorableText | None = None


class StatusReply(Reply):
    """The answer to status: the models that the grid hosts, by name and version."""

    models: list[ModelStatus]


class MetricStatus(Reply):
    """A metric of a cycle."""

    value: float
    """Its mean over the samples of all workers that told it."""
    weight: float
    """Over how many samples."""
    workers: int
    """How many workers told it."""


class PrivacySpent(Reply):
    """What a cycle has spent of its model's privacy. The unit is one worker, whose reports may be zeros."""

    mechanism: str
    """What added the noise."""
    noise_multiplier: float
    """The standard deviation of the noise on the sum, over `clip`."""
    sigma: float
    """That standard deviation."""
    clip: float
    """The largest norm of a report."""
    clipping: str
    """`fixed`: of all tensors together. `per_layer`: of each by itself."""
    participants: int
    """Reports in the sum."""
    cohort: int
    """By what the sum was divided."""
    checkpoint: int | None = None
    """The checkpoint that the cycle made; absent when it failed, which costs the same."""
    delta: float
    epsilon: float
    """Of all cycles up to this one together, at `delta`. Nothing is taken off for sampling."""


class HistoryRow(Reply):
    """A cycle that has ended."""

    cycle: int
    """Its number; 1 is the model's first cycle."""
    task: Literal["training", "evaluation"] = "training"
    """`evaluation`: its workers only measured the checkpoint."""
    checkpoint: int
    """The checkpoint that its workers started from, and that their evaluation measured."""
    phase: Literal["done", "failed"]
    opened_at: datetime
    closed_at: datetime
    workers: int
    """Workers that were in it."""
    reports: int
    """Reports that were averaged."""
    damaged: int | None = None
    """Reports that were lost, for what the grid had stored of them was damaged."""
    samples: float
    """Samples that the workers told of."""
    metrics: dict[str, MetricStatus]
    """What workers measured of the checkpoint, by name; what they measured while they trained begins with
    `training_`. What the grid measured of the reports is there too."""
    failure: str | None = None
    """Why it made no checkpoint."""
    privacy: PrivacySpent | None = None
    """Of a model with `privacy` in its server_config. Its workers' samples and metrics are not shown."""


class HistoryReply(Reply):
    """The answer to history: the cycles of a model that have ended, the oldest first."""

    rows: list[HistoryRow]


class HistoryRequest(Request):
    """Asks for what came of a model's cycles."""

    name: StorableText
    version: StorableText | None = None


class EvaluateRequest(Request):
    """Asks for an evaluation of the newest checkpoint of a model whose training is finished."""

    name: StorableText
    version: StorableText | None = None


class EvaluateReply(Reply):
    """The evaluation that is open now."""

    status: Literal["success"] = "success"
    cycle: int
    """The number of its cycle, under which its metrics are in the history."""
    checkpoint: int
    """The checkpoint that workers measure."""
