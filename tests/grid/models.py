"""A small model with its Plan, for the grid's tests."""

import base64
import functools

import numpy as np
import torch

from fedplan.plan import PlanInputSpec, PlanOutputSpec, trace
from fedplan.wire import State, WireTensor

SHAPES = ((3, 2), (2,))
MODEL = [np.ones((3, 2), np.float32), np.zeros(2, np.float32)]


def state(*arrays, dtype="float32"):
    return State.of(WireTensor(np.array(array, dtype), dtype) for array in arrays).serialize()


def arrays(data):
    return [tensor.array for tensor in State.parse(data).tensors]


def diff(value, shapes=SHAPES, dtype="float32"):
    """A diff of one value throughout, as bytes."""
    return state(*(np.full(shape, value) for shape in shapes), dtype=dtype)


def base64_of(data):
    return base64.b64encode(data).decode()


def _step(x, y, lr, w, b):
    error = (x @ w + b - y) / x.shape[0]
    return (error * error).sum(), w - lr * (x.T @ error), b - lr * error.sum(0)


@functools.cache
def training_plan():
    kinds, results = PlanInputSpec, PlanOutputSpec
    plan = trace(
        _step,
        torch.zeros(4, 3),
        torch.zeros(4, 2),
        torch.tensor([0.1]),
        torch.zeros(3, 2),
        torch.zeros(2),
        name="training_plan",
        inputs=[
            kinds(kinds.TYPE_DATA),
            kinds(kinds.TYPE_TARGET),
            kinds(kinds.TYPE_CLIENT_CONFIG_PARAM, "lr"),
            kinds(kinds.TYPE_MODEL_PARAM, index=0),
            kinds(kinds.TYPE_MODEL_PARAM, index=1),
        ],
        outputs=[
            results(results.TYPE_LOSS),
            results(results.TYPE_MODEL_PARAM, index=0),
            results(results.TYPE_MODEL_PARAM, index=1),
        ],
    )
    return plan.serialize()


def averaging_plan(step, inputs, shapes=SHAPES):
    """A Plan of `step` over that many diffs' worth of tensors and, for an iterative one, a number."""
    tensors = [torch.zeros(shape) for shape in shapes * (inputs // len(shapes))]
    number = [torch.tensor([1])] if inputs % len(shapes) else []
    return trace(step, *tensors, *number).serialize()


@functools.cache
def no_plan():
    """A Plan that has nothing to do with any model."""
    return trace(lambda x: x + 1, torch.zeros(1)).serialize()


@functools.cache
def iterative_plan():
    return averaging_plan(
        lambda a0, a1, i0, i1, num: ((a0 * num + i0) / (num + 1), (a1 * num + i1) / (num + 1)), 5
    )


@functools.cache
def plan_for_two():
    return averaging_plan(lambda a0, a1, b0, b1: ((a0 + b0) / 2, (a1 + b1) / 2), 4)


@functools.cache
def plan_that_fails_when_diffs_agree():
    return averaging_plan(lambda a0, a1, b0, b1: ((a0 + b0) / (a0 - b0), (a1 + b1) / 2), 4)


def hosting(name="m", version="1.0", *, server=None, client=None, **parts):
    """A host-training request; `parts` replace its binaries (bytes) or whole fields."""
    request = {
        "model": state(*MODEL).hex(),
        "plans": {"training_plan": training_plan().hex()},
        "protocols": {},
        "averaging_plan": None,
        "client_config": {"name": name, "version": version, "batch_size": 4, "lr": 0.1, "max_updates": 1},
        "server_config": {"max_diffs": 1} if server is None else server,
    }
    request["client_config"].update(client or {})
    for key, value in parts.items():
        request[key] = value.hex() if isinstance(value, bytes) else value
    return request
