"""What the inputs and outputs of a Plan stand for, so that a trainer can fill and read them."""

import dataclasses
import re
from typing import Any, ClassVar


@dataclasses.dataclass(frozen=True, slots=True)
class PlanInputSpec:
    """Describes one input of a Plan: which of the things that `PlanTrainer` knows goes there.

    Attributes:
        type: one of the ``TYPE_…`` constants.
        name: name of the argument; needed for `TYPE_CLIENT_CONFIG_PARAM`.
        index: which element to take, where the type stands for a list.
        value: the argument itself, for `TYPE_VALUE`.
    """

    TYPE_DATA: ClassVar = "data"
    """A batch of the training data."""
    TYPE_TARGET: ClassVar = "target"
    """The batch's targets, also called labels."""
    TYPE_BATCH_SIZE: ClassVar = "batchSize"
    """Number of samples in the batch."""
    TYPE_CLIENT_CONFIG_PARAM: ClassVar = "clientConfigParam"
    """A value of the client_config, by `name`."""
    TYPE_VALUE: ClassVar = "value"
    """The value given in `value`."""
    TYPE_MODEL_PARAM: ClassVar = "modelParam"
    """A parameter of the model, by `index`."""
    TYPE_OPTIMIZER_STATE: ClassVar = "optimizerState"
    """A tensor of the optimizer, by `index`: zeros at first, then what the Plan returned for it.

    An addition of fedplan; the reference has no optimizers with state.
    """

    TYPE_RECEIVED_PARAM: ClassVar = "receivedParam"
    """A tensor of the model as the worker received it in this cycle, by `index`. An addition of fedplan."""
    TYPE_STEP: ClassVar = "step"
    """Number of the batch in the cycle, from 0. An addition of fedplan."""
    TYPE_CYCLE: ClassVar = "cycle"
    """Number of the cycle, 1 being the model's first one on its grid. An addition of fedplan."""
    TYPE_RANDOM: ClassVar = "random"
    """Random numbers of the distribution `name`, drawn anew for each batch: the random input number `index`.

    An addition of fedplan; see docs/randomness.md.
    """

    type: str
    name: str | None = None
    index: int | None = None
    value: Any = None

    @property
    def label(self) -> str:
        """What it stands for, in a word or two: ``lr``, ``data``, ``modelParam 3``."""
        return _label(self)

    def __post_init__(self) -> None:
        _check_type(self, "input", _INPUT_TYPES)
        if self.type == self.TYPE_CLIENT_CONFIG_PARAM and self.name is None:
            raise ValueError("a clientConfigParam input needs the name of the client_config key")


@dataclasses.dataclass(frozen=True, slots=True)
class PlanOutputSpec:
    """Describes one output of a Plan: what `PlanTrainer` does with it.

    Attributes:
        type: one of the ``TYPE_…`` constants.
        name: name of the metric; needed for `TYPE_METRIC`.
        index: place in the list, where the type stands for a list.
    """

    TYPE_LOSS: ClassVar = "loss"
    """The batch's loss."""
    TYPE_METRIC: ClassVar = "metric"
    """A metric, by `name`."""
    TYPE_MODEL_PARAM: ClassVar = "modelParam"
    """A trained parameter of the model, by `index`."""
    TYPE_OPTIMIZER_STATE: ClassVar = "optimizerState"
    """A tensor of the optimizer, by `index`; goes into the next batch. An addition of fedplan."""

    type: str
    name: str | None = None
    index: int | None = None

    @property
    def label(self) -> str:
        """What it stands for, in a word or two: ``loss``, ``accuracy``, ``modelParam 3``."""
        return _label(self)

    def __post_init__(self) -> None:
        _check_type(self, "output", _OUTPUT_TYPES)
        if self.type == self.TYPE_METRIC and self.name is None:
            raise ValueError("a metric output needs a name")


def _constants(kind: type) -> tuple[str, ...]:
    return tuple(value for name, value in vars(kind).items() if name.startswith("TYPE_"))


_INPUT_TYPES = _constants(PlanInputSpec)
_OUTPUT_TYPES = _constants(PlanOutputSpec)


def _label(spec: PlanInputSpec | PlanOutputSpec) -> str:
    return spec.name or (spec.type if spec.index is None else f"{spec.type} {spec.index}")


def _check_type(spec: PlanInputSpec | PlanOutputSpec, what: str, known: tuple[str, ...]) -> None:
    if spec.type not in known:
        raise ValueError(f"'{spec.type}' is no type of Plan {what}; the types are {', '.join(known)}")


# In a serialized Plan the specs travel as a tag of their placeholder: "#fedplan:modelParam:3".
_TAG = "#fedplan"
_BATCH = (PlanInputSpec.TYPE_DATA, PlanInputSpec.TYPE_TARGET)
_INDEX = re.compile(r"[0-9]{1,9}")


def to_tag(spec: PlanInputSpec | PlanOutputSpec) -> str:
    """The placeholder tag that carries a spec. A value (`TYPE_VALUE`) does not travel."""
    parts = [part for part in (spec.name, spec.index) if part is not None]
    return ":".join([_TAG, spec.type, *(map(str, parts) if parts else [""])])


def input_from_tags(tags: list[str]) -> PlanInputSpec | None:
    """The spec that the tags of an input placeholder carry, or None when they carry none."""
    found = _parse(tags, _INPUT_TYPES, named=PlanInputSpec.TYPE_CLIENT_CONFIG_PARAM)
    return None if found is None else PlanInputSpec(*found)


def output_from_tags(tags: list[str]) -> PlanOutputSpec | None:
    """The spec that the tags of an output placeholder carry, or None when they carry none."""
    found = _parse(tags, _OUTPUT_TYPES, named=PlanOutputSpec.TYPE_METRIC)
    return None if found is None else PlanOutputSpec(*found)


def _parse(tags: list[str], known: tuple[str, ...], named: str) -> tuple[str, str | None, int | None] | None:
    for tag in tags:
        prefix, _, body = tag.partition(":")
        kind, _, rest = body.partition(":")
        if prefix != _TAG or kind not in known:
            continue
        if kind == named:
            return (kind, rest, None) if rest else None
        if kind == PlanInputSpec.TYPE_RANDOM:
            distribution, _, number = rest.partition(":")
            return (kind, distribution, int(number)) if _INDEX.fullmatch(number) else None
        if kind in _BATCH and rest and not _INDEX.fullmatch(rest):
            return kind, rest, None
        return kind, None, int(rest) if _INDEX.fullmatch(rest) else None
    return None
