"""What the conversations are about: a small model whose Plan is hosted in all three variants."""

import base64
import functools
import io
import warnings

import torch

from fedplan.plan import trace
from fedplan.wire import schema
from fedplan.wire.messages import SPEED_TEST_BYTES
from tests.grid.models import MODEL, diff, state, training_plan

PROTOCOL = schema.Protocol(name="handshake").encode()
LARGE = ((1000, 312), (312,))
"""Shapes of a model of 1.25 MB."""


class _Step(torch.nn.Module):
    """The training step as phones call it."""

    def forward(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        batch_size: torch.Tensor,
        lr: torch.Tensor,
        params: list[torch.Tensor],
    ) -> list[torch.Tensor]:
        error = (torch.matmul(x, params[0]) + params[1] - y) / batch_size
        step = torch.matmul(x.t(), error)
        return [(error * error).sum(), params[0] - lr * step, params[1] - lr * error.sum(0)]


@functools.cache
def torchscript() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the form is what phones load, whatever has become of its maker
        module = torch.jit.script(_Step())
        file = io.BytesIO()
        torch.jit.save(module, file)
    return file.getvalue()


def _id(number: int) -> schema.PlaceholderId:
    return schema.PlaceholderId(id=schema.Id(id_int=number))


def _action(command: str, result: int, *operands: int) -> schema.ComputationAction:
    args = [schema.Arg(arg_placeholder_id=_id(operand)) for operand in operands]
    return schema.ComputationAction(command=command, args=args, return_placeholder_ids=[_id(result)])


def tfjs() -> schema.Role:
    """The training step as syft.js executes it: x, y, lr, w, b are 1 to 5."""
    actions = [
        _action("tf.matMul", 6, 1, 4),
        _action("tf.add", 7, 6, 5),
        _action("tf.sub", 8, 7, 2),
        _action("tf.mul", 9, 8, 8),
        _action("tf.sum", 10, 9),
        _action("tf.transpose", 11, 1),
        _action("tf.matMul", 12, 11, 8),
        _action("tf.mul", 13, 3, 12),
        _action("tf.sub", 14, 4, 13),
        _action("tf.sum", 15, 8),
        _action("tf.mul", 16, 3, 15),
        _action("tf.sub", 17, 5, 16),
    ]
    placeholders = [
        schema.Placeholder(id=schema.Id(id_int=n), tags=[f"#input-{n - 1}"], description=f"v{n}")
        for n in range(1, 18)
    ]
    return schema.Role(
        id=schema.Id(id_int=18),
        actions=actions,
        state=schema.State(),
        placeholders=placeholders,
        input_placeholder_ids=[schema.Id(id_int=n) for n in (1, 2, 3, 4, 5)],
        output_placeholder_ids=[schema.Id(id_int=n) for n in (10, 14, 17)],
    )


def plan(
    variants: tuple[str, ...] = ("torchscript", "tfjs"), tags: tuple[str, ...] = (), listed: bytes = b""
) -> bytes:
    """A Plan to host: the list, and what else is named."""
    message = schema.Plan.decode(listed or training_plan())
    message.tags = list(tags)
    if "torchscript" in variants:
        message.torchscript = torchscript()
    if "tfjs" in variants:
        message.roles = {"tfjs": tfjs()}
    return message.encode()


def small_model() -> dict[str, object]:
    return {"plans": {"training_plan": plan().hex()}, "protocols": {"handshake": PROTOCOL.hex()}}


def hosted_as(*variants: str) -> dict[str, object]:
    """The small model, its Plan as a list and in these variants."""
    return {"plans": {"training_plan": plan(variants).hex()}}


def large_model() -> dict[str, object]:
    listed = trace(lambda x: x * 2, torch.zeros(3)).serialize()
    return small_model() | {
        "plans": {"training_plan": plan(listed=listed).hex()},
        "model": diff(0.5, LARGE),
    }


def report(shapes=None) -> str:
    """Base64 of a diff. It holds ``+`` and ``/``, which some clients escape in JSON or in URLs."""
    data = diff(-0.38) if shapes is None else diff(-0.38, shapes)
    return base64.b64encode(data).decode()


# What downloads must be


def is_the_model(data: bytes) -> None:
    assert data == state(*MODEL)


def is_the_protocol(data: bytes) -> None:
    assert data == PROTOCOL


def is_the_list(data: bytes) -> None:
    served = schema.Plan.decode(data)
    assert served.role == schema.Plan.decode(training_plan()).role
    assert served.torchscript == b""
    assert served.roles == {}


def is_torchscript(data: bytes) -> None:
    served = schema.Plan.decode(data)
    assert served.torchscript == torchscript()
    assert served.role.actions == []
    assert served.roles == {}


def is_tfjs(data: bytes) -> None:
    served = schema.Plan.decode(data)
    assert served.role == tfjs()
    assert served.torchscript == b""
    assert served.roles == {}


def is_as_large_as_the_speed_test(data: bytes) -> None:
    assert len(data) == SPEED_TEST_BYTES


def holds_trained_parameters(tensors) -> None:
    """The model minus the reported diff."""
    for trained, original in zip(tensors, MODEL, strict=True):
        assert abs(trained - (original + 0.38)).max() < 1e-6
