"""A model of five tensors, of which training changes the second and the last."""

import dataclasses
import functools

import numpy as np
import torch

from fedplan.plan import PlanInputSpec, PlanOutputSpec, Role, trace
from fedplan.wire import State, WireTensor

from .models import base64_of, state

SHAPES = ((40, 30), (2,), (3, 2), (), (4,))
CHANGING = (1, 4)
FROZEN = (0, 2, 3)
MODEL = [np.random.default_rng(0).normal(size=shape).astype(np.float32) for shape in SHAPES]


def _step(x, lr, *tensors):
    change = lr * x.sum()
    changed = (tensor - change if place in CHANGING else tensor for place, tensor in enumerate(tensors))
    return change.sum(), *changed


@functools.cache
def plan(*frozen):
    """A training Plan that says that it leaves these tensors as they are, and trains the others."""
    kinds, results = PlanInputSpec, PlanOutputSpec
    traced = trace(
        _step,
        torch.zeros(4, 3),
        torch.tensor([0.1]),
        *(torch.zeros(shape) for shape in SHAPES),
        inputs=[
            kinds(kinds.TYPE_DATA),
            kinds(kinds.TYPE_CLIENT_CONFIG_PARAM, "lr"),
            *(kinds(kinds.TYPE_MODEL_PARAM, index=place) for place in range(len(SHAPES))),
        ],
        outputs=[
            results(results.TYPE_LOSS),
            *(results(results.TYPE_MODEL_PARAM, index=place) for place in range(len(SHAPES))),
        ],
    )
    roles = [None, None, *(Role.FROZEN if place in frozen else Role.TRAINED for place in range(len(SHAPES)))]
    inputs = (dataclasses.replace(i, role=role) for i, role in zip(traced.inputs, roles, strict=True))
    return dataclasses.replace(traced, inputs=tuple(inputs)).serialize()


def hosted(**changes):
    """What differs from the usual model when this one is hosted."""
    return {"model": state(*MODEL), "plans": {"training_plan": plan(*FROZEN).hex()}} | changes


def part(values, places=CHANGING):
    """A State of a part of the model: one value throughout for each of these tensors."""
    shapes = (SHAPES[place] for place in places)
    pairs = zip(shapes, values, strict=True)
    return State.of((WireTensor(np.full(s, v, np.float32), "float32") for s, v in pairs), places).serialize()


def whole(values):
    """A diff as other clients send it: with zeros for what is frozen."""
    by_place = dict(zip(CHANGING, values, strict=True))
    return state(*(np.full(shape, by_place.get(place, 0)) for place, shape in enumerate(SHAPES)))


async def report(worker, data):
    return await worker.report(diff=base64_of(data))
