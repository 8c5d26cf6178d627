"""Tensors for the tests of averaging."""

import numpy as np

from fedplan.wire import WireTensor

LAYOUT = (((3, 4), "float32"), ((4,), "float32"), ((), "float32"))


def wire(values, dtype="float32"):
    return WireTensor(np.array(values, dtype), dtype)


def random_diffs(count, layout=LAYOUT, seed=0):
    rng = np.random.default_rng(seed)
    return [[wire(rng.normal(size=shape), dtype) for shape, dtype in layout] for _ in range(count)]


def average(rule, diffs, layout=LAYOUT):
    state = rule.start(layout)
    for diff in diffs:
        state = rule.add(state, diff)
    return rule.finish(state, layout)
