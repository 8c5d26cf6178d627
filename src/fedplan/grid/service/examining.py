"""How a report is checked, before anything is kept of it."""

import dataclasses
from collections.abc import Collection, Sequence

import pybase64

from fedplan.errors import DiffRefusedError, WireError
from fedplan.federation import (
    Layout,
    Reach,
    Strategy,
    Tensors,
    Update,
    changed_outside,
    largest_diff,
    part_of,
)
from fedplan.federation.refusals import check_fit, check_sum, check_told
from fedplan.federation.stored import read_stored
from fedplan.grid.blobs.checksum import mark_of
from fedplan.grid.records import Process
from fedplan.wire import State, Summary, read_report, with_summary
from fedplan.wire.compression import decompress
from fedplan.wire.scalars import Buffer
from fedplan.wire.state import Places

_VALUES = 2000
_VALUES_OF_TENSOR = 200
"""Most ids, tags, extents and so on in a report. Clients send about twenty of a tensor, four of a metric."""

_MEASUREMENT_BYTES = 256 * 1024
"""Of a report without tensors, in any form: a hundred metrics take a tenth of it."""

_PLACES_TOLD = 10


@dataclasses.dataclass(frozen=True, slots=True)
class Examined:
    """A report that was checked.

    Attributes:
        data: what is kept of it.
        digest: of `data`, as its blob's key has it: tells a report that comes again from another one.
        update: what is in it.
        reach: how far the values of its tensors reach.
    """

    data: Buffer
    digest: str
    update: Update
    reach: Reach


def examine(sent: Buffer | str, process: Process, strategy: Strategy) -> Examined:
    """Checks a report.

    Args:
        sent: its bytes, or base64 of them.
        process: the model.
        strategy: the model's.

    Raises:
        DiffRefusedError: see `read_diff`; or the report does not tell what the strategy needs, or cannot be
            averaged with others.
    """
    formats = process.server_config.report_formats
    whole = _whole(sent, process.layout)
    data, tensors, summary, reach = read_diff(whole, process.layout, formats, process.changing)
    check_told(strategy, summary)
    update = Update(tensors, summary, reach=reach)
    check_sum(strategy, update)
    return Examined(data, mark_of(data), update, reach)


def examine_measurement(sent: Buffer | str) -> Buffer:
    """Checks a report of a worker that only measured the model; returns what is kept of it.

    Raises:
        DiffRefusedError: it cannot be read, holds tensors, or tells nothing that was measured.
    """
    if len(sent) > _MEASUREMENT_BYTES:
        raise DiffRefusedError("the report is far larger than one of what was measured can be")
    data = _decoded(sent) if isinstance(sent, str) else sent
    try:
        state, summary = read_report(data, _VALUES)
    except WireError as error:
        raise DiffRefusedError(f"the report cannot be read: {error}") from None
    if state.tensors or not summary.evaluation:
        raise DiffRefusedError(
            "this place in the cycle is for evaluation alone: its report holds a summary of what the "
            "evaluation Plan measured, and no tensors"
        )
    return data


def read_diff(
    diff: Buffer | str, layout: Layout, formats: Collection[str] = (), changing: Places = None
) -> tuple[Buffer, Tensors, Summary, Reach]:
    """What is kept of a report: its bytes without what is frozen, the tensors in them, what it tells, and how
    far the tensors reach.

    Args:
        diff: the State's bytes, or base64 of them; white space in this is no fault. It holds all tensors of
            the model, or exactly those that change.
        layout: the model's.
        formats: in what the model takes diffs besides float32.
        changing: which of the model's tensors change.

    Raises:
        DiffRefusedError: it is not base64, not a State, too large, or does not fit the model; a tensor that
            is frozen differs.
    """
    data = _whole(diff, layout)
    try:
        state, summary = read_report(data, _VALUES + _VALUES_OF_TENSOR * len(layout))
        whole = _is_whole(state.places, len(layout), changing)
        expected = layout if whole else part_of(layout, changing)
        _check_size(len(data), expected)
        reason = _other_dtype(state, expected)
        tensors = () if reason else decompress(state, [shape for shape, _ in expected], formats)
    except WireError as error:
        raise DiffRefusedError(f"the diff cannot be read: {error}") from None
    if reason is not None:
        raise DiffRefusedError(f"the diff does not fit the model: {reason}")
    reach = check_fit(tensors, expected)
    if whole and changing is not None:
        kept = _reduced(state, summary, tensors, layout, changing)
        return (*kept, summary, tuple(reach[place] for place in changing))
    return data, tensors, summary, reach


def _whole(diff: Buffer | str, layout: Layout) -> Buffer:
    """A report's bytes, unless there are far too many."""
    _check_size(len(diff) // (2 if isinstance(diff, str) else 1), layout)  # white space counts too
    return _decoded(diff) if isinstance(diff, str) else diff


def _check_size(size: int, layout: Layout) -> None:
    if size > largest_diff(layout):
        raise DiffRefusedError("the diff is far larger than one of this model can be")


def _is_whole(held: Places, tensors: int, changing: Places) -> bool:
    """Whether a diff is to hold all tensors of the model, not only those that change.

    Raises:
        DiffRefusedError: it says that it holds others.
    """
    if held is None or held == tuple(range(tensors)):
        return True
    if held == changing:
        return False
    least = "" if changing is None else f", or exactly the {len(changing)} that change: {_listed(changing)}"
    raise DiffRefusedError(
        f"the diff holds these tensors of the model: {_listed(held)}. A report holds all {tensors}{least}"
    )


def _listed(places: Sequence[int]) -> str:
    shown = ", ".join(map(str, places[:_PLACES_TOLD]))
    return shown if len(places) <= _PLACES_TOLD else f"{shown} …"


def _reduced(
    state: State, summary: Summary, tensors: Tensors, layout: Layout, changing: Sequence[int]
) -> tuple[bytes, Tensors]:
    """A whole diff without what is frozen; it keeps nothing of the whole one's memory."""
    changed = changed_outside(tensors, changing)
    if changed is not None:
        raise DiffRefusedError(
            f"the diff changes tensor {changed}, which is frozen in the model's Plans, or private to each "
            "worker: send zeros for it, or leave all such tensors out"
        )
    data = with_summary(state.part(changing).serialize(), summary)
    return data, read_stored(data, part_of(layout, tuple(changing))).tensors


def _other_dtype(state: State, layout: Layout) -> str | None:
    """Why a State's tensors are not of the model's dtypes: seen before any time goes into reading them."""
    for index, (given, (_, dtype)) in enumerate(zip(state.dtypes, layout, strict=False)):
        if given not in ("", dtype) and (given, dtype) != ("qint8", "float32"):  # a smaller form of it
            return f"tensor {index} is of {given}, the model's of {dtype}"
    return None


def _decoded(text: str) -> bytes:
    try:
        return pybase64.b64decode(text, validate=True)
    except ValueError:  # binascii.Error is one, and so is text that is not ASCII
        pass
    try:
        return pybase64.b64decode("".join(text.split()), validate=True)  # KotlinSyft breaks its lines
    except ValueError:
        raise DiffRefusedError("the diff is not base64") from None
