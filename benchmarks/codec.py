"""A State's bytes to tensors and back, and a report's JSON, beside one copy of the same bytes."""

from collections.abc import Callable

import pybase64

from benchmarks.line import Line, Options
from benchmarks.load import base64_of
from benchmarks.models import FLOATS, state
from benchmarks.timing import interleave
from fedplan.grid.service.examining import read_diff
from fedplan.wire import State
from fedplan.wire.messages import ReportRequest


def run(options: Options) -> list[Line]:
    """The table's lines."""
    return [line for size, floats in FLOATS.items() for line in measure(size, floats, options)]


def measure(size: str, floats: int, options: Options) -> list[Line]:
    """One size of State. What comes out is in memory of its own, so the copy beside it is too."""
    data = state(floats, 0.5)
    tensors = State.parse(data).tensors
    layout = tuple((tensor.shape, tensor.dtype) for tensor in tensors)
    text = base64_of(data)
    body = f'{{"worker_id":"w","request_key":"k","diff":"{text}"}}'.encode()
    source = memoryview(data)
    work: dict[str, tuple[float, Callable[[], object]]] = {
        "State decoded": (3, lambda: State.parse(data).tensors),
        "State encoded": (3, lambda: State.of(tensors).serialize()),
        "base64 decoded": (3, lambda: pybase64.b64decode(text, validate=True)),
        "base64 encoded": (3, lambda: pybase64.b64encode_as_string(data)),
        "report's JSON parsed": (10, lambda: ReportRequest.model_validate_json(body)),
        "report's base64 decoded and checked": (10, lambda: read_diff(text, layout)),
    }
    small = floats < 1_000_000
    return [
        interleave(do, lambda: bytes(source), rounds=options.rounds(101 if small else 11), units=1).line(
            f"{name}, {size}, beside a copy", most
        )
        for name, (most, do) in work.items()
    ]
