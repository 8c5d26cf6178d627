"""A strategy and a metric that are defined outside of fedplan, on a grid that is killed and goes on.

The grid runs in a process of its own, which imports this file and registers them. Nothing of it is patched.
"""

import contextlib
import itertools
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

from fedplan import ModelCentricFLClient, participate, training_plan
from fedplan.errors import GridResponseError
from fedplan.federation import (
    Measure,
    ServerState,
    Setting,
    Strategy,
    StrategyConfig,
    StrategyKind,
    register_measure,
    register_strategy,
)
from tests.processes import Process


class SlowingConfig(StrategyConfig):
    """Settings of a strategy whose steps become shorter."""

    name: Literal["slowing"] = "slowing"
    decay: float = 0.5


def slowing(config: SlowingConfig, setting: Setting) -> Strategy:
    """new model = model − decay^cycles × average."""

    def step(model, average, state):
        done = float(state.tensors["done"][0]) if state.tensors else 0.0
        change = [config.decay**done * tensor for tensor in average.tensors]
        return change, ServerState({"done": [np.array(done + 1)]})

    return Strategy("slowing", setting, step)


def register():
    register_strategy(StrategyKind("slowing", SlowingConfig, slowing))
    register_measure(
        Measure("largest", lambda update, _: max(float(abs(t.array).max()) for t in update.tensors))
    )


SERVE = """
import sys
sys.path.insert(0, sys.argv[1])
if sys.argv[3] == "with plugins":
    import tests.grid.averaging.test_plugins
    tests.grid.averaging.test_plugins.register()
from fedplan.grid import Settings, serve
settings = Settings(data_dir=sys.argv[2], poll_seconds=0.05, retry_seconds=0.5)
serve(settings, port=0, on_ready=lambda port: print(port, flush=True))
"""
ROOT = Path(__file__).parents[3]


@contextlib.contextmanager
def grid(folder, plugins="with plugins"):
    """A grid that is killed at the end of the block, without warning."""
    with Process("-c", SERVE, ROOT, folder, plugins) as process:
        try:
            port = process.stdout.readline().strip()
            assert port, "the grid did not start: its error is above"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def net():
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def test_a_strategy_and_a_metric_of_ones_own_outlive_the_grid(tmp_path):
    x, y = torch.randn(8, 3), torch.arange(8) % 2
    plan = training_plan(net(), nn.functional.cross_entropy, example=(x, y))
    client = {"name": "m", "version": "1.0", "batch_size": 8, "lr": 1.0}
    server = {"max_diffs": 1, "strategy": {"name": "slowing", "decay": 0.25}, "metrics": ["largest"]}
    models, rows = [], []
    for cycle in (1, 2, 3):
        with grid(tmp_path) as url, ModelCentricFLClient(url) as owner:
            if cycle == 1:
                owner.host_federated_training(net(), {"training_plan": plan}, client, server)
                models.append([p.detach().clone() for p in net().parameters()])
            participate(url, "m", "1.0", x, y, verbose=True)
            owner.wait("m", "1.0", checkpoint=cycle + 1, timeout=30)
            models.append(owner.retrieve_model("m", "1.0").params)
            rows = list(owner.history("m", "1.0"))

    for cycle, (before, after) in enumerate(itertools.pairwise(models)):
        own = [p.clone().requires_grad_() for p in before]
        loss = nn.functional.cross_entropy(nn.functional.linear(x, *own), y)
        gradients = torch.autograd.grad(loss, own)
        for old, new, gradient in zip(before, after, gradients, strict=True):
            torch.testing.assert_close(new, old - 0.25**cycle * gradient, rtol=0, atol=1e-6)
        largest = max(float(gradient.abs().max()) for gradient in gradients)
        assert rows[cycle].metrics["largest"].value == pytest.approx(largest, rel=1e-5)
        assert rows[cycle].metrics["training_loss"].value == pytest.approx(loss.item(), rel=1e-5)


def test_where_a_strategy_is_not_known_its_models_stand_still_and_the_others_go_on(tmp_path):
    x, y = torch.randn(8, 3), torch.arange(8) % 2
    plans = {"training_plan": training_plan(net(), nn.functional.cross_entropy, example=(x, y))}

    def host(owner, name, **server):
        client = {"name": name, "version": "1.0", "batch_size": 8, "lr": 1.0}
        owner.host_federated_training(net(), plans, client, {"min_workers": 1, "cycle_length": 1, **server})

    with grid(tmp_path) as url, ModelCentricFLClient(url) as owner:
        host(owner, "own", strategy="slowing")
        host(owner, "plain")
    with grid(tmp_path, "without plugins") as url, ModelCentricFLClient(url) as owner:
        participate(url, "plain", "1.0", x, y, wait=30.0)  # its cycle ends each second
        owner.wait("plain", "1.0", checkpoint=2, timeout=30)
        with pytest.raises(GridResponseError, match="slowing"):
            participate(url, "own", "1.0", x, y)
        own, plain = owner.status().models
        assert "slowing" in own.fault
        assert (own.cycle.number, own.checkpoints[0].number) == (1, 1)
        assert plain.fault is None
    with grid(tmp_path) as url, ModelCentricFLClient(url) as owner:
        assert owner.status("own").models[0].fault is None
        participate(url, "own", "1.0", x, y, wait=30.0)
        owner.wait("own", "1.0", checkpoint=2, timeout=30)
