"""Tensors, updates and settings for the tests of federation."""

import numpy as np

from fedplan.federation import Setting, Update, strategy_of
from fedplan.plan import Role
from fedplan.wire import MetricMean, Summary, WireTensor
from fedplan.wire.config import parse_server_config

LAYOUT = (((3, 4), "float32"), ((4,), "float32"), ((), "float32"))


def wire(values, dtype="float32"):
    return WireTensor(np.array(values, dtype), dtype)


def random_diffs(count, layout=LAYOUT, seed=0):
    rng = np.random.default_rng(seed)
    return [[wire(rng.normal(size=shape), dtype) for shape, dtype in layout] for _ in range(count)]


def setting(server=None, client=None, layout=LAYOUT, roles=None, changing=None):
    held = len(layout) if changing is None else len(changing)
    return Setting(
        parse_server_config(server or {}),
        client or {},
        layout,
        changing,
        roles or (Role.TRAINED,) * held,
    )


def strategy(name, layout=LAYOUT, roles=None, client=None, server=None, **settings):
    made_for = setting({"strategy": {"name": name, **settings}, **(server or {})}, client, layout, roles)
    return strategy_of(made_for)


def random_updates(count, layout=LAYOUT, seed=0, *, untold=()):
    """Updates that tell samples, steps and a loss, but for those that tell nothing."""
    rng = np.random.default_rng(seed + 1)
    told = []
    for number, diff in enumerate(random_diffs(count, layout, seed)):
        samples, steps, loss = (
            float(rng.integers(1, 1000)),
            int(rng.integers(1, 50)),
            float(rng.uniform(0.1, 3)),
        )
        summary = Summary(samples, steps, {"loss": MetricMean(loss, samples)})
        told.append(Update(diff, Summary() if number in untold else summary))
    return told
