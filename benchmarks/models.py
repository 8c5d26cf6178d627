"""The models that the grid's measurements host, and their diffs."""

import functools

import httpx
import numpy as np
import torch

from benchmarks.load import HOST
from fedplan.plan import trace
from fedplan.wire import State, WireTensor

FLOATS = {"1.25 MB": 312_500, "100 MB": 25_000_000}


def state(floats: int, value: float | None = None) -> bytes:
    """A State of two tensors with so many float32 in all: of one value, or random."""
    rows = floats // 10 - 1
    shapes = ((rows, 10), (floats - rows * 10,))
    random = np.random.default_rng(0)
    made = (
        random.normal(size=shape).astype("f4") if value is None else np.full(shape, value, "f4")
        for shape in shapes
    )
    return State.of(WireTensor(array, "float32") for array in made).serialize()


@functools.cache
def _plan() -> bytes:
    """Nothing here runs it."""
    return trace(lambda x: x + 1, torch.zeros(1)).serialize()


def host(port: int, name: str, model: bytes, **server: object) -> None:
    """Hosts a model whose cycles run as `server` says."""
    message = {
        "model": model.hex(),
        "plans": {"training_plan": _plan().hex()},
        "client_config": {"name": name, "version": "1.0", "batch_size": 4, "lr": 0.1, "max_updates": 1},
        "server_config": server,
    }
    reply = httpx.post(f"http://{HOST}:{port}/model-centric/host-training", json=message, timeout=60)
    reply.raise_for_status()
