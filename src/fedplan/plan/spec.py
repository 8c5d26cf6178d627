"""What the inputs and outputs of a Plan stand for, so that a trainer can fill and read them."""

import dataclasses
import re
from collections.abc import Sequence
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

    TYPE_MASK: ClassVar = "mask"
    """For each row of the batch 1 where it counts, and 0 where it only fills the batch up: (batch,), float32.

    An addition of fedplan, for DP-SGD, whose batches have any number of samples, also none.
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
        if self.type == self.TYPE_RANDOM and self.index is None:
            raise ValueError("a random input needs its number among the random inputs, as `index`")


BATCH = frozenset((PlanInputSpec.TYPE_DATA, PlanInputSpec.TYPE_TARGET))
"""What a batch consists of; its first dimension counts samples."""


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


# In a serialized Plan specs travel as tags of their placeholder, such as "#fedplan:modelParam:3". What such a
# tag cannot say alone is said by three: "#fedplan:metric:", "#fedplan-name:acc", "#fedplan-index:0".
_TAG, _NAME_TAG, _INDEX_TAG = "#fedplan:", "#fedplan-name:", "#fedplan-index:"
_NAMED = (PlanInputSpec.TYPE_CLIENT_CONFIG_PARAM, PlanOutputSpec.TYPE_METRIC)
_INDEX = re.compile(r"[0-9]{1,9}")


def to_tags(spec: PlanInputSpec | PlanOutputSpec) -> list[str]:
    """The placeholder tags that carry a spec. Values (`TYPE_VALUE`) and negative indices do not travel."""
    said = (spec.type, spec.name, spec.index)
    parts = [str(part) for part in said[1:] if part is not None] or [""]
    short = _TAG + ":".join([spec.type, *parts])
    if _parse([short], (spec.type,)) == said:
        return [short]
    name = [] if spec.name is None else [_NAME_TAG + spec.name]
    index = [] if spec.index is None else [f"{_INDEX_TAG}{spec.index}"]
    return [f"{_TAG}{spec.type}:", *name, *index]


def input_from_tags(tags: Sequence[str]) -> PlanInputSpec | None:
    """The spec that the tags of an input placeholder carry, or None when they carry none."""
    found = _parse(tags, _INPUT_TYPES)
    return None if found is None else PlanInputSpec(*found)


def output_from_tags(tags: Sequence[str]) -> PlanOutputSpec | None:
    """The spec that the tags of an output placeholder carry, or None when they carry none."""
    found = _parse(tags, _OUTPUT_TYPES)
    return None if found is None else PlanOutputSpec(*found)


def _parse(tags: Sequence[str], known: Sequence[str]) -> tuple[str, str | None, int | None] | None:
    for tag in tags:
        kind, _, rest = tag.removeprefix(_TAG).partition(":")
        if not tag.startswith(_TAG) or kind not in known:
            continue
        name, index = _short(kind, rest)
        name = next((t.removeprefix(_NAME_TAG) for t in tags if t.startswith(_NAME_TAG)), name)
        number = next((t.removeprefix(_INDEX_TAG) for t in tags if t.startswith(_INDEX_TAG)), "")
        index = int(number) if _INDEX.fullmatch(number) else index
        lacks = (kind in _NAMED and name is None) or (kind == PlanInputSpec.TYPE_RANDOM and index is None)
        return None if lacks else (kind, name, index)
    return None


def _short(kind: str, rest: str) -> tuple[str | None, int | None]:
    """Name and index of a spec of this type, from what its tag says behind the type."""
    if kind in _NAMED:
        return rest or None, None
    if kind == PlanInputSpec.TYPE_RANDOM:
        name, _, rest = rest.partition(":")
        return name or None, int(rest) if _INDEX.fullmatch(rest) else None
    if _INDEX.fullmatch(rest):
        return None, int(rest)
    return (rest or None) if kind in BATCH else None, None
