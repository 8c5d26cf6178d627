"""The arguments of an archive's `forward`: the Plan's inputs, with the model's parameters as one list."""

import dataclasses
import itertools
import keyword
import re
from collections.abc import Sequence

from fedplan.plan.signature import PlanInput
from fedplan.plan.spec import PlanInputSpec

_LISTS = {PlanInputSpec.TYPE_MODEL_PARAM: "params", PlanInputSpec.TYPE_OPTIMIZER_STATE: "optimizer_state"}
"""Inputs of these types that follow one another are one argument, as phones pass them."""

_NAMES = {
    PlanInputSpec.TYPE_DATA: "data",
    PlanInputSpec.TYPE_TARGET: "target",
    PlanInputSpec.TYPE_BATCH_SIZE: "batch_size",
    PlanInputSpec.TYPE_VALUE: "value",
}

_RESERVED = frozenset(
    {
        "self",
        "torch",
        "ops",
        "annotate",
        "fork",
        "uninitialized",
        "inf",
        "nan",
        "float",
        "int",
        "bool",
        "max",
        "min",
    }
)
"""Names that mean something in the source of an archive."""


@dataclasses.dataclass(frozen=True, slots=True)
class Argument:
    """One argument of `forward`.

    Attributes:
        name: its name.
        inputs: which of the Plan's inputs it holds, by their places.
        listed: it is a list of tensors, of any length, and not one tensor.
    """

    name: str
    inputs: tuple[int, ...]
    listed: bool


def arguments(inputs: Sequence[PlanInput]) -> list[Argument]:
    """The arguments for a Plan's inputs, in order; random inputs have none."""
    made: list[Argument] = []

    def add(name: str, places: tuple[int, ...], listed: bool) -> None:
        taken = {argument.name for argument in made}
        made.append(Argument(_identifier(name, taken), places, listed))

    places = [place for place, item in enumerate(inputs) if not item.is_random]
    for kind, run in itertools.groupby(places, key=lambda place: _type(inputs[place])):
        if kind in _LISTS:
            add(_LISTS[kind], tuple(run), listed=True)
        else:
            for place in run:
                add(_name(inputs[place]), (place,), listed=False)
    return made


def _type(item: PlanInput) -> str | None:
    return None if item.spec is None else item.spec.type


def _name(item: PlanInput) -> str:
    return item.name if item.spec is None else item.spec.name or _NAMES.get(item.spec.type, item.name)


def _identifier(name: str, taken: set[str]) -> str:
    """The name as TorchScript allows it, and as no value or other argument is called."""
    word = re.sub(r"\W", "_", name, flags=re.ASCII) or "_"
    if word[0].isdigit() or re.fullmatch(r"v\d+", word) or keyword.iskeyword(word) or word in _RESERVED:
        word = f"_{word}"
    while word in taken:
        word += "_"
    return word
