"""A program of its own, which averages diffs by Plans of models' owners for a grid.

It is started by its path, so that nothing of the grid is loaded, and speaks over its standard input and
output. A grid sends a job, its Plan, its diffs and an end; the answer is the averaged diff, or why there is
none. The program ends when its input does. `apart` watches how much memory and time it takes.
"""

import contextlib
import dataclasses
import json
import os
import signal
import struct
import sys
import traceback
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from fedplan.errors import FedplanError
from fedplan.federation import Tensors, fold_by_plan
from fedplan.plan import Limits, Plan, PlanInput, PlanOutput
from fedplan.plan.ir.graph import Graph, Node, Ref
from fedplan.wire import State
from fedplan.wire.scalars import Buffer

READY, JOB, PLAN, DIFF, END, AVERAGE, FAILED = b"R", b"J", b"P", b"D", b"E", b"A", b"F"
"""What a piece of the conversation is."""

_HEAD = struct.Struct("<cQ")
"""Of a piece: what it is, and how many bytes follow."""

_KILLED_FIRST = b"1000"
"""Where the machine has no memory left, Linux ends this process before all others."""


def send(stream: BinaryIO, kind: bytes, content: Buffer = b"") -> None:
    """Sends a piece.

    Raises:
        BrokenPipeError: nobody reads any more.
    """
    stream.write(_HEAD.pack(kind, len(content)))
    stream.write(content)
    stream.flush()


def receive(stream: BinaryIO) -> tuple[bytes, bytes]:
    """The next piece: what it is, and its content.

    Raises:
        EOFError: the other side has ended.
    """
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise EOFError
    kind, size = _HEAD.unpack(head)
    content = stream.read(size)
    if len(content) < size:
        raise EOFError
    return kind, content


def main() -> None:
    """Answers until the input ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they are meant for the grid, which ends this by itself
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb") as score:
        score.write(_KILLED_FIRST)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else is printed is no answer
    asked = sys.stdin.buffer
    _warm_up()
    send(answers, READY)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            _, job = receive(asked)
            send(answers, *_answer(json.loads(job), asked))


def _warm_up() -> None:
    """Runs a Plan, so that what is loaded for the first one counts as the program's own."""
    graph = Graph((0,), (), (Node("aten.add.Tensor", (Ref(0), 1), (1,)),), (1,))
    plan = Plan("warm-up", (PlanInput("x"),), (PlanOutput("y"),), graph)
    for _ in range(2):  # the second run is compiled
        plan(np.zeros(2, np.float32))


def _answer(job: dict[str, Any], asked: BinaryIO) -> tuple[bytes, bytes]:
    _, plan = receive(asked)
    diffs = _diffs(asked)
    try:
        made = _averaged(job, plan, (State.parse(diff).tensors for diff in diffs))
    except FedplanError as error:
        answer = FAILED, str(error).encode()
    except MemoryError:
        answer = FAILED, b"the averaging Plan failed: there is too little memory"
    except EOFError:
        raise
    except Exception as error:  # noqa: BLE001  # whoever hosted the Plan is told what nobody foresaw
        traceback.print_exc()
        said = str(error).strip().split("\n")[0]
        answer = FAILED, f"the averaging Plan failed: {type(error).__name__}: {said}".encode()
    else:
        answer = AVERAGE, made
    for _ in diffs:  # the grid sends them all before it reads the answer
        pass
    return answer


def _diffs(asked: BinaryIO) -> Iterator[bytes]:
    while True:
        kind, content = receive(asked)
        if kind == END:
            return
        yield content


def _averaged(job: dict[str, Any], plan: bytes, diffs: Iterator[Tensors]) -> bytes:
    limits = Limits(**job["limits"])
    parsed = dataclasses.replace(Plan.parse(plan, limits), limits=limits)
    layout = tuple((tuple(shape), dtype) for shape, dtype in job["layout"])
    changing = None if job["changing"] is None else tuple(job["changing"])
    made = fold_by_plan(parsed, diffs, layout, changing, iterative=job["iterative"])
    return State.of(made).serialize()


if __name__ == "__main__":
    main()
