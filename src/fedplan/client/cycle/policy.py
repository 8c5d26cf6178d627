"""ConsentPolicy: what a worker lets run on its data, written down once."""

import dataclasses
import fnmatch
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from fedplan.client.cycle.privacy import JobPrivacy
from fedplan.client.job import Job
from fedplan.errors import ConfigError, PlanError, PlanLimitError
from fedplan.federation.secure.cycles import PROTOCOL_NAME
from fedplan.plan import Limits, Plan
from fedplan.plan.leaving import leaving
from fedplan.plan.ops import OPS
from fedplan.plan.run.check import DEFAULT_LIMITS
from fedplan.text import did_you_mean

OUTPUTS = ("loss", "metrics", "parameters")
"""What a report may tell, as `ConsentPolicy.outputs` names it."""

_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kMGT]?i?)B\s*")
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12} | {
    "ki": 2**10,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
_MOST_NAMED = 5


@dataclasses.dataclass(frozen=True, slots=True)
class LeastPrivacy:
    """The promises without which a worker does not train; part of a `ConsentPolicy`.

    Attributes:
        secure_aggregation: whether the grid must learn only the sum of the reports, and none of them. The
            worker itself sees to that: it reports under masks. docs/privacy.md says what it promises.
        max_epsilon: the largest ε of all cycles up to this one; the cycle must then have differential privacy
            (`Job.privacy`). The grid says it, and no worker can check it. None: any, and none is needed.
        max_delta: the largest δ of that ε, by default 1e-5; it counts only with `max_epsilon`.
        max_clip: the largest norm of what is reported, to which the worker itself scales its report down.
            None: any.
    """

    secure_aggregation: bool = False
    max_epsilon: float | None = None
    max_delta: float = 1e-5
    max_clip: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.secure_aggregation, bool):
            raise ConfigError(
                f"privacy.secure_aggregation is true or false, and not {self.secure_aggregation!r}"
            )
        for name in ("max_epsilon", "max_delta", "max_clip"):
            value = getattr(self, name)
            if value is not None and not _is_positive(value):
                raise ConfigError(f"privacy.{name} must be a number above 0, and it is {value!r}")

    def refusals(self, privacy: JobPrivacy | None, *, secure: bool) -> list[str]:
        """Which of the promises a cycle does not make.

        Args:
            privacy: its differential privacy, see `Job.privacy`; None without.
            secure: whether the worker reports in a secure round.
        """
        told: list[str] = []
        if self.secure_aggregation and not secure:
            told.append(
                "the policy asks for secure aggregation, and in this cycle the grid sees each worker's report"
            )
        if self.max_epsilon is None and self.max_clip is None:
            return told
        if privacy is None:
            return [*told, "the policy asks for differential privacy, and the cycle has none"]
        bounds = (
            ("max_epsilon", "an ε", privacy.told.epsilon, self.max_epsilon),
            ("max_delta", "a δ", privacy.told.delta, None if self.max_epsilon is None else self.max_delta),
            ("max_clip", "a clip", privacy.clip, self.max_clip),
        )
        return told + [
            f"the cycle has {what} of {value:.4g}, and the policy takes {most:g} at most ({name})"
            for name, what, value, most in bounds
            if most is not None and value > most
        ]


@dataclasses.dataclass(frozen=True, slots=True)
class ConsentPolicy:
    """What a worker lets run on its data, and what it lets leave its machine. ::

        policy = fedplan.ConsentPolicy(
            allow_ops=["mm", "add", "relu", "aten.*_backward", "sym.*"],
            max_memory=2**30,
            outputs="loss, parameters",
            privacy=fedplan.LeastPrivacy(max_epsilon=8.0),
        )
        fedplan.participate(url, "mnist", "1.0.0", images, labels, accept=policy)

    It is asked in each cycle before anything runs, about every Plan of the cycle. What breaks it gives the
    place in the cycle back, and the `CycleDeclinedError` says all that breaks it. `read` reads it from a TOML
    file with these keys, and ``fedplan worker --policy FILE`` uses that.

    The policy bounds which operations run, what they take, and what is reported. It does not bound what a
    report tells about the data: the change of the parameters can tell much of it. That is what `privacy` is
    for.

    Attributes:
        allow_ops: the operations that a Plan may have: names as ``fedplan plan show`` prints them (``mm``),
            whole names (``aten.mm.default``), or patterns (``aten.*``). None: all that a Plan can have.
        max_operations: most operations of a Plan, counted in its list. None: as `Limits.max_operations`,
            beyond which a Plan is not even read.
        max_flops: most additions and multiplications of one run, on one batch. None: as `Limits.max_work`.
        max_memory: most memory of one run, in bytes. None: as `Limits.max_bytes`. With `Job` in place of
            `participate`, pass `limits` to `Syft`: so it holds for the very batches that run.
        outputs: what may be reported, of ``loss``, ``metrics`` and ``parameters``: a list, or a text with
            commas. None: all three. The numbers of samples and batches are always told.
        privacy: the promises without which nothing runs. None: none are needed.
    """

    allow_ops: Sequence[str] | None = None
    max_operations: int | None = None
    max_flops: int | None = None
    max_memory: int | None = None
    outputs: Sequence[str] | str | None = None
    privacy: LeastPrivacy | None = None

    def __post_init__(self) -> None:
        """Checks what was given.

        Raises:
            ConfigError: a value cannot be used; the message names the nearest one for a misspelt word.
        """
        for name in ("max_operations", "max_flops", "max_memory"):
            object.__setattr__(self, name, _whole(name, getattr(self, name)))
        ops = _words("allow_ops", self.allow_ops)
        outputs = _words("outputs", self.outputs)
        object.__setattr__(self, "allow_ops", ops)
        object.__setattr__(self, "outputs", outputs)
        for pattern in ops or ():
            _check_pattern(pattern)
        for word in outputs or ():
            if word not in OUTPUTS:
                raise ConfigError(
                    f"outputs: '{word}' is nothing that a report tells{did_you_mean(word, OUTPUTS)} "
                    f"It is of {', '.join(OUTPUTS)}"
                )
        if self.privacy is not None and not isinstance(self.privacy, LeastPrivacy):
            raise ConfigError(f"privacy is a {type(self.privacy).__name__}, and must be a LeastPrivacy")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Reads a policy from a TOML file, whose keys are the attributes; docs/plans.md has an example.

        ``max_memory`` may be a text with a unit, such as ``"512 MB"`` or ``"2 GiB"``; the promises stand
        under ``[privacy]``.

        Raises:
            ConfigError: the file cannot be read, is no TOML, or has an unknown key or a wrong value.
        """
        try:
            given = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"the policy {path} cannot be read: {error.strerror or error}") from error
        except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError are such
            raise ConfigError(f"the policy {path} is no TOML: {error}") from None
        try:
            return cls.of(given)
        except ConfigError as error:
            raise ConfigError(f"the policy {path}: {error}") from None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """A policy from plain values, as a TOML file holds them; see `read`.

        Raises:
            ConfigError: a key is unknown, or a value wrong.
        """
        told = dict(given)
        _check_keys(told, cls, "a policy")
        privacy = told.get("privacy")
        if privacy is not None:
            if not isinstance(privacy, Mapping):
                raise ConfigError("privacy is a table: [privacy], and its keys in the lines below")
            _check_keys(privacy, LeastPrivacy, "[privacy]")
            told["privacy"] = LeastPrivacy(**privacy)
        if isinstance(told.get("max_memory"), str):
            told["max_memory"] = _bytes(told["max_memory"])
        return cls(**told)

    @property
    def limits(self) -> Limits:
        """What a Plan may use under this policy, for `Syft`; the usual limits where it says nothing."""
        return self.within(DEFAULT_LIMITS)

    def within(self, limits: Limits) -> Limits:
        """Limits, made as narrow as the policy is in memory and work, which each batch needs anew.

        How many operations a Plan has is known as soon as the policy is asked, which then tells all reasons.
        """
        return dataclasses.replace(
            limits,
            max_bytes=_least(limits.max_bytes, self.max_memory),
            max_work=_least(limits.max_work, self.max_flops),
        )

    def __call__(self, job: Job) -> bool | str:
        """Whether a job may train: True, or all reasons why not; `participate` takes this as `accept`.

        Raises:
            WireError: what the grid tells of the privacy cannot be read.
        """
        size = job.client_config.get("batch_size")
        rows = size if isinstance(size, int) and size > 0 else 1
        told = [reason for plan in job.plans.values() for reason in self.refusals(plan, rows)]
        if self.privacy is not None:
            told += self.privacy.refusals(job.privacy, secure=PROTOCOL_NAME in job.protocols)
        return "; ".join(told) or True

    def refusals(self, plan: Plan, rows: int = 1) -> list[str]:
        """Why a Plan may not run; nothing when it may.

        Args:
            plan: the Plan.
            rows: samples in a batch. For batches of another size the bounds on memory and work are looked at
                again when they run, by the Plan's limits. So they are for a Plan that does not say the shapes
                of its inputs.
        """
        found = [*self._forbidden_ops(plan), *self._forbidden_outputs(plan), *self._too_large(plan, rows)]
        return [f"the Plan '{plan.name}' {reason}" for reason in found]

    def _forbidden_ops(self, plan: Plan) -> Iterable[str]:
        if self.allow_ops is None:
            return
        used = dict.fromkeys(node.op for node in plan.graph.nodes)
        forbidden = [op for op in used if not any(_means(pattern, op) for pattern in self.allow_ops)]
        if forbidden:
            named = ", ".join(forbidden[:_MOST_NAMED])
            more = f" and {len(forbidden) - _MOST_NAMED} more" if len(forbidden) > _MOST_NAMED else ""
            yield f"has operations that allow_ops does not name: {named}{more}"

    def _forbidden_outputs(self, plan: Plan) -> Iterable[str]:
        if self.outputs is None:
            return
        told = leaving(plan)
        forbidden = [kind for kind in told.kinds if kind not in self.outputs]
        if not forbidden:
            return
        if told.unknown:
            yield (
                f"does not say what its outputs {', '.join(told.unknown[:_MOST_NAMED])} stand for, so it may "
                f"report {' and '.join(forbidden)}, which the policy's outputs do not name"
            )
            return
        named = {"metrics": f"metrics ({', '.join(told.metrics)})"}
        what = " and ".join(named.get(kind, kind) for kind in forbidden)
        yield f"would report {what}, which the policy's outputs do not name"

    def _too_large(self, plan: Plan, rows: int) -> Iterable[str]:
        count, most = len(plan.graph.nodes), self.max_operations
        if most is not None and count > most:
            yield f"has {count} operations, and the policy takes {most} at most (max_operations)"
            return
        if any(item.shape is None or item.dtype is None for item in plan.inputs):
            return
        try:
            plan.check([item.with_rows(rows) for item in plan.inputs], self.within(plan.limits))
        except PlanLimitError as error:
            yield f"would use more than is allowed on a batch of {rows}: {error}"
        except PlanError:  # not a matter of consent: it will be said when the Plan runs
            return


def names_of(op: str) -> tuple[str, ...]:
    """What an operation is called: ``aten.add.Tensor``, ``aten.add`` and ``add``."""
    parts = op.split(".")
    return op, ".".join(parts[:2]), parts[1] if op.startswith(("aten.", "fedplan.")) else op


def _means(pattern: str, op: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in names_of(op))


def _check_pattern(pattern: str) -> None:
    """Refuses what means no operation: it is most likely misspelt."""
    if not any(_means(pattern, op) for op in OPS):
        known = {name for op in OPS for name in names_of(op)}
        raise ConfigError(
            f"allow_ops: '{pattern}' means no operation that a Plan can have{did_you_mean(pattern, known)} "
            "`fedplan plan show` prints the names of those that a Plan has, and fedplan.plan.OPS has all"
        )


def _check_keys(given: Mapping[str, Any], kind: type[Any], what: str) -> None:
    known = [field.name for field in dataclasses.fields(kind)]
    for key in given:
        if key not in known:
            raise ConfigError(
                f"'{key}' is no key of {what}{did_you_mean(str(key), known)} The keys are {', '.join(known)}"
            )


def _words(name: str, given: Any) -> tuple[str, ...] | None:
    """A list of words, or a text with commas between them, as a tuple."""
    if given is None:
        return None
    words = given.split(",") if isinstance(given, str) else given
    if not isinstance(words, Sequence) or not all(isinstance(word, str) for word in words):
        raise ConfigError(f'{name} must be a list of names, such as ["loss"], and it is {given!r:.100}')
    return tuple(word.strip() for word in words if word.strip())


def _whole(name: str, value: Any) -> int | None:
    """A bound as a whole number; 1e9 is one in TOML."""
    if value is None:
        return None
    if not _is_positive(value) or value != int(value):
        raise ConfigError(f"{name} must be a whole number above 0, and it is {value!r}")
    return int(value)


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


def _bytes(text: str) -> int:
    found = _SIZE.fullmatch(text)
    if found is None or found[2] not in _UNITS:
        raise ConfigError(f'max_memory is a number of bytes, or a text such as "512 MB"; it is {text!r}')
    return int(float(found[1]) * _UNITS[found[2]])


def _least(limit: int, bound: int | None) -> int:
    return limit if bound is None else min(limit, bound)
