"""Every exception that fedplan raises on purpose.

    FedplanError
    ├── WireError                   bytes or JSON that are not a valid message
    │   ├── MessageTooLargeError    a message over the reader's limit
    │   └── TensorEncodingError     a tensor whose shape, dtype and contents disagree
    ├── PlanError
    │   ├── TraceError              the author's function cannot become a Plan
    │   ├── UnsupportedOpError      an operation outside the op table
    │   ├── TranslationError        an operation that another framework cannot say
    │   ├── VariantError            a variant of a Plan that computes something else than its op list
    │   ├── PlanFormatError         a Plan's op list is not well formed
    │   ├── PlanLimitError          a Plan would use more memory or work than allowed
    │   ├── PlanInputError          arguments that do not fit the Plan's inputs
    │   └── PlanExecutionError      an operation failed while the Plan ran
    ├── DataError                   a data set, loader or batch that cannot be used
    ├── DatabaseUnavailableError    a grid's database that is away, or refuses for now
    ├── DamagedBlobError            stored bytes that are not any more what they were
    ├── DamagedReportsError         stored reports without which a cycle has to do
    ├── GridProcessError            a process of a grid that does not stay, or does not end as it should
    ├── AggregationError            updates that cannot be averaged, or an average that is not usable
    ├── SecureAggregationError      secure aggregation that cannot be done as it is asked for
    │   ├── SecureMessageError      a message of a secure round that who received it refuses
    │   └── SecureRoundError        a secure round that ends without a sum
    ├── ConfigError                 a client, server or process setting that is wrong
    │   ├── SettingsError           a setting of a process with which it must not start
    │   └── StuckCycleError         a simulated cycle that can never close
    ├── WorkerError                 raised on the worker's and the model owner's side
    │   ├── InsecureUrlError        a plain http/ws URL where only https/wss is allowed
    │   ├── UnknownEventError       an event name that does not exist
    │   ├── JobStateError           a call that the Job's or the trainer's state does not allow
    │   ├── CheckpointError         a training checkpoint that cannot be read or applied
    │   ├── PrivateStateError       a worker's private tensors that cannot be read, kept or used
    │   ├── ModelMismatchError      parameters whose number or shapes are not the model's
    │   ├── CycleRejectedError      the grid did not take the worker into a cycle
    │   ├── CycleDeclinedError      the worker did not accept what the cycle would run on its data
    │   ├── CycleFailedError        a cycle that the model owner waits for made no checkpoint
    │   ├── WaitTimeoutError        what the model owner waits for was not there in time
    │   ├── GridConnectionError     the grid could not be reached, or the connection broke
    │   │   └── GridTimeoutError    the grid did not answer in time
    │   └── GridResponseError       the grid answered with an error, or with something unreadable
    └── GridError                   raised in the grid; each has one HTTP status and a public message
        ├── InvalidRequestError     a request that lacks something or holds something wrong
        ├── AuthenticationError     no token, or a wrong one
        ├── AccessDeniedError       a request key that does not open what was asked for
        ├── NotFoundError           no such model, version, checkpoint, Plan or Protocol
        ├── NameTakenError          a model of that name and version is hosted already
        ├── ModelStateError         a call that does not fit how far the model's training has come
        ├── HostingError            a model, Plan or configuration that cannot be hosted
        ├── DiffRefusedError        a report that does not fit the model
        ├── ReportConflictError     a report that comes twice, or after its cycle
        ├── SlowRequestError        a request whose body stopped coming
        ├── TooManyRequestsError    an address sends more requests than one may
        └── OverloadedError         the grid cannot take more at present

Messages say what happened, why, and what to do next.
"""

import typing


class FedplanError(Exception):
    """Base of every error that fedplan raises on purpose."""


class WireError(FedplanError):
    """Bytes or JSON that are not a valid message."""


class MessageTooLargeError(WireError):
    """A message over the reader's limit."""


class TensorEncodingError(WireError):
    """A tensor on the wire whose shape, dtype and contents disagree."""


class PlanError(FedplanError):
    """Base of the errors about Plans."""


class TraceError(PlanError):
    """The author's function cannot become a Plan."""


def _line_and_layer(place: str | None) -> tuple[str | None, str | None]:
    """The two parts of a place like ``net.py:12 in encoder.0: Dropout``."""
    line, _, layer = (place or "").partition(" in ")
    return line or None, layer or None


class UnsupportedOpError(PlanError):
    """An operation outside the op table.

    Attributes:
        op: name of the operation, such as ``aten.nonzero``.
        source: ``file:line`` in the author's code, when it is known.
        layer: the layer of the network, such as ``encoder.0: Dropout``, when it is known.
        instead: what to write instead, when something is known.
    """

    def __init__(self, op: str, *, source: str | None = None, instead: str | None = None) -> None:
        self.op = op
        self.source, self.layer = _line_and_layer(source)
        self.instead = instead
        place = f" (at {source})" if source else ""
        advice = (
            f" {instead}" if instead else " `fedplan.plan.OPS` lists the operations that a Plan may hold."
        )
        super().__init__(f"the operation '{op}' is not one that a Plan may hold{place}.{advice}")


class TranslationError(PlanError):
    """An operation, or an input, that a Plan cannot have in the terms of another framework.

    Attributes:
        op: name of the operation, such as ``aten.sort.default``, or of the input.
        variant: in which variant it cannot be said: tfjs or TorchScript.
        source: ``file:line`` in the author's code, when it is known.
        layer: the layer of the network, such as ``encoder.0: Dropout``, when it is known.
    """

    def __init__(
        self, op: str, variant: str, *, source: str | None, why: str, kind: str = "operation"
    ) -> None:
        self.op = op
        self.variant = variant
        self.source, self.layer = _line_and_layer(source)
        place = f" (at {source})" if source else ""
        super().__init__(f"the {kind} '{op}'{place} cannot be said in {variant}. {why}")


class VariantError(PlanError):
    """A variant of a Plan that computes something else than its op list."""


class PlanFormatError(PlanError):
    """A Plan's op list is not well formed."""


class PlanLimitError(PlanError):
    """A Plan would use more memory or work than allowed."""


class PlanInputError(PlanError):
    """Arguments that do not fit the Plan's inputs."""


class PlanExecutionError(PlanError):
    """An operation failed while the Plan ran."""


class DataError(FedplanError):
    """A data set, loader or batch that cannot be used."""


class DatabaseUnavailableError(FedplanError):
    """A grid's database that is away, or refuses for now: what was asked of it may work a moment later.

    Whether the transaction that failed was committed is not known.
    """


class GridProcessError(FedplanError):
    """A process of a grid that ends again and again as soon as it is started, or not as it was told to."""


class DamagedBlobError(FedplanError):
    """Stored bytes of a grid that are not any more what they were: cut short, or changed."""


class DamagedReportsError(FedplanError):
    """Reports of a cycle that are damaged or missing where they were stored.

    Attributes:
        blobs: the keys of their blobs.
    """

    def __init__(self, blobs: tuple[str, ...]) -> None:
        self.blobs = blobs
        super().__init__(f"{len(self.blobs)} stored reports are damaged or missing: {', '.join(self.blobs)}")


class AggregationError(FedplanError):
    """Updates that cannot be averaged, or an average that is not usable."""


class SecureAggregationError(FedplanError):
    """Secure aggregation that cannot be done as it is asked for: numbers or parameters that do not fit."""


class SecureMessageError(SecureAggregationError):
    """A message of a secure round that who received it refuses: damaged, out of turn, or not honest."""


class SecureRoundError(SecureAggregationError):
    """A secure round that ends without a sum; the message says why."""


class ConfigError(FedplanError):
    """A client, server or process setting that is wrong."""


class SettingsError(ConfigError):
    """A setting of a process with which it must not start: an argument or an environment variable."""


class StuckCycleError(ConfigError):
    """A simulated cycle that can never close.

    Attributes:
        simulation: what came of the cycles before it: the `Simulation` that `simulate` would have returned.
    """

    simulation: typing.Any = None


class WorkerError(FedplanError):
    """Base of the errors on the worker's and the model owner's side."""


class InsecureUrlError(WorkerError):
    """A plain http/ws URL where only https/wss is allowed."""


class UnknownEventError(WorkerError):
    """An event name that does not exist."""


class JobStateError(WorkerError):
    """A call that the Job's or the trainer's present state does not allow."""


class CheckpointError(WorkerError):
    """A training checkpoint that cannot be read or applied."""


class PrivateStateError(WorkerError):
    """A worker's private tensors that cannot be read or kept, or are another model's."""


class ModelMismatchError(WorkerError):
    """Parameters whose number or shapes are not the model's."""


class CycleRejectedError(WorkerError):
    """The grid did not take the worker into a cycle.

    Attributes:
        timeout: seconds after which another request makes sense; None when the model takes no more workers.
        at_latest: True when another request may make sense before, as on a PyGrid node; see `Rejected`.
    """

    def __init__(self, message: str, *, timeout: float | None = None, at_latest: bool = False) -> None:
        self.timeout = timeout
        self.at_latest = at_latest
        super().__init__(message)


class CycleDeclinedError(WorkerError):
    """The worker did not accept what the cycle would run on its data.

    Attributes:
        reason: why.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        self.reason = reason
        super().__init__(message)


class CycleFailedError(WorkerError):
    """A cycle that the model owner waits for ended without a checkpoint; the message says why."""


class WaitTimeoutError(WorkerError):
    """What the model owner waits for was not there in time; the message says what the cycle waits for."""


class GridConnectionError(WorkerError):
    """The grid could not be reached, or the connection broke.

    Attributes:
        sent: False when it is certain that the grid got nothing of the request.
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        self.sent = sent
        super().__init__(message)


class GridTimeoutError(GridConnectionError):
    """The grid did not answer in time."""


class GridResponseError(WorkerError):
    """The grid answered with an error, or with something unreadable.

    Attributes:
        status: HTTP status of the answer; None over a WebSocket, unless the grid is one of fedplan.
        retry_after: seconds after which the grid wants the request again; None when it did not say.
        accepts: content types of bodies that the grid says it knows; "" when it did not say.
        damaged: True when the answer was damaged on its way, so that another may come whole.
        worded: False when the answer held no words of a grid, such as a web server's page.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        accepts: str = "",
        damaged: bool = False,
        worded: bool = True,
    ) -> None:
        self.status = status
        self.retry_after = retry_after
        self.accepts = accepts
        self.damaged = damaged
        self.worded = worded
        super().__init__(message)


class GridError(FedplanError):
    """Base of the errors raised in the grid. Their messages are sent to the peer: nothing private goes in."""


class InvalidRequestError(GridError):
    """A request that lacks something or holds something wrong."""


class AuthenticationError(GridError):
    """No authentication token, or a wrong one."""


class AccessDeniedError(GridError):
    """What was shown does not open what was asked for: a request key, or an API token for other things. Or a
    web page from elsewhere asks a grid that has no tokens."""


class NotFoundError(GridError):
    """No such model, version, checkpoint, Plan or Protocol."""


class NameTakenError(GridError):
    """A model of that name and version is hosted already."""


class ModelStateError(GridError):
    """A call that does not fit how far the model's training has come."""


class HostingError(GridError):
    """A model, Plan or configuration that cannot be hosted."""


class DiffRefusedError(GridError):
    """A report that does not fit the model."""


class ReportConflictError(GridError):
    """A report that comes twice, or after its cycle."""


class SlowRequestError(GridError):
    """A request whose body stopped coming."""


class TooManyRequestsError(GridError):
    """An address sends more requests than one may."""


class OverloadedError(GridError):
    """The grid cannot take more at present."""
