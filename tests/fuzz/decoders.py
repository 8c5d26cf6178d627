"""What reads bytes: messages, States, reports, Plans, secure rounds, zstd. Nothing of it needs a grid."""

import contextlib
import functools
import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from fedplan.errors import FedplanError
from fedplan.federation.hosting import check_plan, checked_model
from fedplan.federation.secure import (
    Lists,
    RosterMember,
    SecureWorker,
    Terms,
    check_agreement,
    check_answer,
    check_report,
    check_shares,
)
from fedplan.federation.secure import messages as secure_messages
from fedplan.federation.secure.messages import Versioned
from fedplan.federation.secure.messages import read as read_secure
from fedplan.grid.service.examining import examine_measurement, read_diff
from fedplan.plan import Limits, Plan, split_variants
from fedplan.plan.ops import DTYPES
from fedplan.wire import State, WireTensor, schema, with_summary
from fedplan.wire.compression import FORMATS, compress
from fedplan.wire.encoding import ZstdReader, to_zstd
from fedplan.wire.protobuf import Message
from fedplan.wire.summary import MetricMean, Summary
from tests.federation.secure.rounds import RECEIVED, SecureRound, drawn_from
from tests.fuzz.changes import changed_bytes, changed_message
from tests.fuzz.target import Target
from tests.grid.models import iterative_plan, plan_for_two, training_plan
from tests.shared import FIXTURES

LIMITS = Limits(max_bytes=64 * 2**20, max_work=10**8)
"""For Plans that are run: a Plan that passes takes a part of a second."""

_LAYOUTS = (
    (((3, 2), "float32"), ((2,), "float32")),
    (((40,), "float32"), ((), "float32"), ((0, 3), "float32")),
    (((4,), "float64"), ((3,), "int64"), ((2, 2), "float16")),
)
_MOST_UNPACKED = 16 * 2**20


def tables_of_messages() -> list[type[Message]]:
    """Every class of messages that has a wire form."""
    found, waiting = list[type[Message]](), [Message]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if getattr(kind, "_fields", ()):
            found.append(kind)
    return sorted(set(found), key=lambda kind: f"{kind.__module__}.{kind.__name__}")


_MESSAGES = tables_of_messages()


def read_message(data: bytes) -> None:
    """The first byte says which message the others are. What is written of it is read alike."""
    if not data:
        return
    kind = _MESSAGES[data[0] % len(_MESSAGES)]
    written = kind.decode(data[1:]).encode()
    assert kind.decode(written).encode() == written


def read_state(data: bytes) -> None:
    """A State as it comes from anybody: its tensors, its places, and what hosting a model checks of it."""
    state = State.parse(data)
    assert len(state.dtypes) == len(state.trained) == len(state)
    for read in (lambda: state.places, lambda: checked_model(state), lambda: state.tensors):
        _try(read)


def read_a_report(data: bytes) -> None:
    """A diff in any form, as a grid takes it for models of some layouts."""
    layout = _LAYOUTS[data[0] % len(_LAYOUTS)] if data else _LAYOUTS[0]
    _try(lambda: read_diff(data[1:], layout, FORMATS))
    _try(lambda: read_diff(data[1:], layout, (), (0,)))
    _try(lambda: examine_measurement(data[1:]))


def read_plan(data: bytes) -> None:
    """A Plan as it comes from anybody: read, written, shown, checked and, within limits, run."""
    plan = Plan.parse(data, LIMITS)
    str(plan)
    split_variants(data)
    again = Plan.parse(plan.serialize(), LIMITS)
    assert len(again.graph.nodes) == len(plan.graph.nodes)
    _try(lambda: check_plan(plan, _LAYOUTS[0], {"lr": 0.1, "batch_size": 2}))
    arguments = [_argument(plan, place) for place in range(len(plan.inputs))]
    if sum(argument.numel() for argument in arguments) <= 2**16:
        plan(*arguments)


def _argument(plan: Plan, place: int) -> torch.Tensor:
    item = plan.inputs[place]
    shape = [2 if extent is None else extent for extent in item.shape or item.made_with or ()]
    elements = functools.reduce(lambda a, b: a * abs(b), shape, 1)
    dtype = DTYPES.get(item.dtype or "float32", torch.float32)
    return torch.ones(shape if 0 <= elements <= 2**16 and min(shape, default=0) >= 0 else (), dtype=dtype)


def unpack_zstd(data: bytes) -> None:
    """What a grid or a proxy sends packed, as a worker reads it: it stops at a size."""
    reader, size = ZstdReader(), 0
    for piece in reader.pieces(data):
        size += len(piece)
        if size > _MOST_UNPACKED:
            return
    reader.end()


_SECURE = [
    kind for kind in _MESSAGES if issubclass(kind, Versioned) and kind.__module__ == secure_messages.__name__
]


@functools.cache
def _made_round() -> SecureRound:
    made = SecureRound(6)
    made.run()
    return made


def read_secure_message(data: bytes) -> None:
    """A message of a secure round: as anything, and at each stage as a grid takes it."""
    made, message = _made_round(), data[1:]
    if data:
        kind = _SECURE[data[0] % len(_SECURE)]
        _try(lambda: read_secure(kind, message, "a message"))
    _try(lambda: RosterMember.parse(message))
    _try(lambda: Lists.parse(message, 6))
    _try(lambda: Terms.parse(message))
    _try(lambda: SecureWorker.restore(message))
    _try(lambda: SecureWorker("digits/1/7", draw=drawn_from(0)).join(message, RECEIVED))
    _try(lambda: check_shares(made.terms, 0, message))
    _try(lambda: check_report(made.terms, made.shares, None, 0, message))
    _try(lambda: check_agreement(made.terms, made.lists, 0, message))
    _try(lambda: check_answer(made.terms, made.lists, 0, message))


def _try(read: Callable[[], object]) -> None:
    """Goes on after a refusal; any other error is a fault."""
    with contextlib.suppress(FedplanError):
        read()


def decoders() -> list[Target]:
    """All targets of this module."""
    return [
        Target("messages", read_message, _samples_of_messages(), changed_first),
        Target("states", read_state, _samples_of_states(), changed_message),
        Target("reports", read_a_report, _samples_of_reports(), changed_first),
        Target("secure", read_secure_message, _samples_of_secure_messages(), changed_first),
        Target("zstd", unpack_zstd, _samples_of_zstd(), changed_bytes),
        Target("plans", read_plan, _samples_of_plans(), changed_message, slow=4),
    ]


def changed_first(data: bytes, samples: Sequence[bytes], dice: random.Random) -> bytes:
    """For inputs whose first byte says what the others are."""
    first = data[:1] if dice.random() < 0.9 else dice.randbytes(1)
    return first + changed_message(data[1:], [sample[1:] for sample in (dice.choice(samples),)], dice)


def _samples_of_messages() -> tuple[bytes, ...]:
    plan, state = schema.Plan.decode(training_plan()), schema.State.decode(_state())
    whole: list[Message] = [plan, state, *_inside(plan), *_inside(state)]
    return tuple(bytes([_MESSAGES.index(type(message))]) + message.encode() for message in whole)


def _inside(message: Message) -> Iterator[Message]:
    """The messages in a message; of lists the first."""
    for name, spec in message._fields:
        value = getattr(message, name)
        value = (
            next(iter(value.values()), None)
            if spec.mapped
            else value[0]
            if spec.repeated and value
            else value
        )
        if isinstance(value, Message):
            yield value
            yield from _inside(value)


def _tensors() -> list[WireTensor]:
    chance = np.random.default_rng(0)
    kinds = {"float32": "<f4", "float64": "<f8", "float16": "<f2", "int64": "<i8", "int8": "|i1", "bool": "?"}
    made = [WireTensor(chance.integers(-9, 9, (2, 3)).astype(kind), name) for name, kind in kinds.items()]
    quantized = WireTensor(np.arange(4, dtype=np.int8), "qint8", scale=0.5, zero_point=1)
    halves = WireTensor(np.arange(4, dtype="<u2"), "bfloat16")
    return [*made, quantized, halves, WireTensor(np.zeros((0, 2), np.float32), "float32")]


def _state() -> bytes:
    return State.of(_tensors()).serialize()


def _samples_of_states() -> tuple[bytes, ...]:
    part = State.of(_tensors()[:2], (1, 4)).serialize()
    return (_state(), part, *(path.read_bytes() for path in sorted(FIXTURES.glob("states/*.pb"))[:6]))


def _samples_of_reports() -> tuple[bytes, ...]:
    chance, made = np.random.default_rng(1), list[bytes]()
    told = Summary(3.0, 2, {"loss": MetricMean(0.5, 3.0)}, {"accuracy": MetricMean(0.9, 3.0)})
    for place, layout in enumerate(_LAYOUTS):
        tensors = [
            WireTensor(np.asarray(chance.integers(-3, 3, shape), dtype), dtype) for shape, dtype in layout
        ]
        states = [State.of(tensors), *(compress(tensors, format, 0.3) for format in FORMATS)]
        made += [bytes([place]) + with_summary(state.serialize(), told) for state in states]
    return (*made, b"\0" + with_summary(b"", told))


def _samples_of_secure_messages() -> tuple[bytes, ...]:
    made = _made_round()
    listed = made.lists.serialize(6)
    messages = {
        "KeysMessage": [made.workers[0].keys],
        "AnnouncementMessage": [made.announcement],
        "SharesMessage": [made.shares[0]],
        "DeliveryMessage": [made.deliveries[0]],
        "ReportMessage": [made.reports[0]],
        "ListsMessage": [listed],
        "QuestionMessage": [made.question()],
        "AnswerMessage": [made.answers[0]],
        "WorkerMessage": [made.workers[0].serialize()],
    }
    numbers = {kind.__name__: place for place, kind in enumerate(_SECURE)}
    return tuple(bytes([numbers[name]]) + data for name, found in messages.items() for data in found)


def _samples_of_zstd() -> tuple[bytes, ...]:
    packed = map(to_zstd, (b"", b"a", _state(), bytes(100_000), training_plan()))
    return (*packed, to_zstd(b"one") + to_zstd(b"two"))


def _samples_of_plans() -> tuple[bytes, ...]:
    theirs = [path for path in sorted(FIXTURES.glob("**/list.plan.pb")) if path.stat().st_size < 20_000]
    return (training_plan(), iterative_plan(), plan_for_two(), *(path.read_bytes() for path in theirs[:80]))
