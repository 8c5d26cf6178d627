"""How two Plans differ, operation by operation."""

import dataclasses
import difflib
import hashlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Literal

import torch

from fedplan.plan.ir.graph import Node, Ref, exact
from fedplan.plan.leaving import leaving
from fedplan.plan.listing import operation_text
from fedplan.plan.ops import dtype_name
from fedplan.plan.plan import Plan
from fedplan.plan.spec import PlanInputSpec

_EXACT_UP_TO = 5_000
"""Lines up to which the longest common part is searched for without a shortcut for frequent lines."""

_SHOWN_DIGITS = 12
"""Of the SHA-256 of a constant's values, all of which are compared."""


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """A line of a comparison.

    Attributes:
        sign: whether both Plans have it, or only the first (``removed``) or the second (``added``).
        text: what it says. Values have the numbers of the Plan that has the line; of the first one if both
            have it.
    """

    sign: Literal["same", "removed", "added"]
    text: str


def differences(before: Plan, after: Plan) -> dict[str, list[Line]]:
    """Compares two Plans.

    An operation is the same in both when it has the same name and arguments and reads the same values,
    whatever their numbers are. One that reads another value stands there as removed and added; where as many
    operations stand in the place of others, what reads their results is the same.

    Returns:
        By part the lines of both, in order: ``inputs``, ``constants``, ``operations``, ``outputs``, and
        ``reported``, which is what a worker's report would tell.
    """
    same_value: dict[int, int] = {}
    parts = {
        "inputs": _values(_inputs(before), _inputs(after), same_value),
        "constants": _values(_constants(before), _constants(after), same_value),
    }
    parts["operations"] = list(_operations(before.graph.nodes, after.graph.nodes, same_value))
    parts["outputs"] = _outputs(before, after, same_value)
    told = [[(line, line) for line in _told(plan)] for plan in (before, after)]
    parts["reported"] = [Line(sign, text) for sign, text, _, _ in _aligned(told[0], told[1])]
    return parts


def differ(parts: Mapping[str, Sequence[Line]]) -> bool:
    """Whether a comparison found a difference."""
    return any(line.sign != "same" for lines in parts.values() for line in lines)


_Pair = tuple[Literal["same", "removed", "added"], str, int | None, int | None]


def _aligned(
    before: Sequence[tuple[Hashable, str]], after: Sequence[tuple[Hashable, str]]
) -> Iterator[_Pair]:
    """Lines of two lists, by their keys: sign, text, and the places in both.

    Where as many lines stand in the place of others, each removed one has the place of the added one too.
    """
    junk = len(before) + len(after) > _EXACT_UP_TO
    keys = [[key for key, _ in lines] for lines in (before, after)]
    matcher = difflib.SequenceMatcher(None, keys[0], keys[1], autojunk=junk)
    for tag, start, end, other, other_end in matcher.get_opcodes():
        if tag == "equal":
            for offset in range(end - start):
                yield "same", before[start + offset][1], start + offset, other + offset
            continue
        for place in range(start, end):
            paired = end - start == other_end - other
            yield "removed", before[place][1], place, other + place - start if paired else None
        for place in range(other, other_end):
            yield "added", after[place][1], None, place


_Value = tuple[Hashable, str, int]
"""What a value is, as it is compared; as it is shown; and its number."""


def _inputs(plan: Plan) -> list[_Value]:
    pairs = zip(plan.inputs, plan.graph.inputs, strict=True)
    return [(item, f"{item}{_meaning(item.spec)}", number) for item, number in pairs]


def _meaning(spec: PlanInputSpec | None) -> str:
    if spec is None:
        return ""
    told = (spec.type, spec.name, spec.index, spec.value)
    return f" ({' '.join(str(word) for word in told if word not in (None, ''))})"


def _constants(plan: Plan) -> list[_Value]:
    return [_constant(tensor, number) for number, tensor in plan.graph.constants]


def _constant(tensor: torch.Tensor, number: int) -> _Value:
    dtype, shape = dtype_name(tensor.dtype), tuple(tensor.shape)
    data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    digest = hashlib.sha256(data.numpy().tobytes()).hexdigest()
    text = f"constant {dtype} {shape}, its values have the sum {digest[:_SHOWN_DIGITS]}"
    return (dtype, shape, digest), text, number


def _values(before: Sequence[_Value], after: Sequence[_Value], same_value: dict[int, int]) -> list[Line]:
    """Compares values that exist before the first operation, and notes which are the same."""
    lines = []
    listed = [[(key, f"{Ref(number)} = {text}") for key, text, number in rows] for rows in (before, after)]
    for sign, text, place, other in _aligned(listed[0], listed[1]):
        if place is not None and other is not None:
            same_value[before[place][2]] = after[other][2]
        lines.append(Line(sign, text))
    return lines


def _operations(before: Sequence[Node], after: Sequence[Node], same_value: dict[int, int]) -> Iterator[Line]:
    keyed = [[(_key(node), operation_text(node)) for node in nodes] for nodes in (before, after)]
    for sign, text, place, other in _aligned(keyed[0], keyed[1]):
        if place is None or other is None:
            yield Line(sign, text)
            continue
        old, new = before[place], after[other]
        reads = [same_value.get(number) for number in old.refs()]
        same_value.update(zip(old.results, new.results, strict=False))
        if sign == "removed":
            yield Line(sign, text)
        elif reads == list(new.refs()):
            yield Line("same", text)
        else:  # its results count as the same values, or all that follows would differ too
            yield Line("removed", text)
            yield Line("added", operation_text(new))


def _key(node: Node) -> Hashable:
    """An operation without the numbers of the values that it reads and makes."""
    return node.op, exact(node.replace(lambda _: "%").args), len(node.results)


def _outputs(before: Plan, after: Plan, same_value: Mapping[int, int]) -> list[Line]:
    lines = []
    rows = [
        [
            ((item.name, item.spec), f"{Ref(number)} is {item.name}", number)
            for item, number in zip(plan.outputs, plan.graph.outputs, strict=True)
        ]
        for plan in (before, after)
    ]
    keyed = [[(key, text) for key, text, _ in part] for part in rows]
    for sign, text, place, other in _aligned(keyed[0], keyed[1]):
        if (
            sign != "same"
            or place is None
            or other is None
            or same_value.get(rows[0][place][2]) == rows[1][other][2]
        ):
            lines.append(Line(sign, text))
        else:
            lines += [Line("removed", text), Line("added", rows[1][other][1])]
    return lines


def _told(plan: Plan) -> list[str]:
    told = leaving(plan)
    return [
        *(f"the change of {name}" for name in told.parameters),
        *(["the loss"] if told.loss else []),
        *(f"the metric {name}" for name in told.metrics),
        *(f"maybe {name}" for name in told.unknown),
    ]
