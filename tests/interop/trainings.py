"""Trainings under test: a Plan, the model that it trains, and batches for it."""

import dataclasses
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from fedplan.plan import (
    Plan,
    PlanInputSpec,
    PlanOutputSpec,
    RandomStream,
    from_torch,
    model_parameters,
    to_torch,
    trace,
    training_plan,
    with_variants,
)
from fedplan.wire import State
from tests.grid.peers import Peer
from tests.shared import FIXTURES

Batch = tuple[torch.Tensor, torch.Tensor]


@dataclasses.dataclass(frozen=True)
class Training:
    """A Plan with everything that a worker needs to run it.

    Attributes:
        plan: the Plan as it is hosted, with all its variants.
        params: the model.
        inputs: what the Plan's inputs stand for, in order, as `cycles.mjs` names them.
        outputs: how many outputs it has besides the params.
        client_config: what workers are told.
        batches: makes batches of a seed and their number.
    """

    plan: bytes
    params: tuple[torch.Tensor, ...]
    inputs: tuple[str, ...]
    outputs: int
    client_config: dict[str, float]
    batches: Callable[[int, int], list[Batch]]

    def train(
        self, params: Sequence[torch.Tensor], batches: Sequence[Batch], seed: int = 0
    ) -> tuple[list[float], list[torch.Tensor]]:
        """What a worker does in a cycle, in Python: the loss of each batch, and the trained params."""
        plan, losses, random = Plan.parse(self.plan), [], RandomStream(seed)
        for step, (data, target) in enumerate(batches):
            given = {
                "data": [data],
                "target": [target],
                "batch_size": [torch.tensor([float(len(data))])],
                "lr": [torch.tensor([self.client_config["lr"]])],
                "params": params,
            }
            values = [value for name in self.inputs for value in given[name]]
            outputs = plan(*values, random=random, step=step)
            losses.append(outputs[0].item())
            params = outputs[-len(params) :]
        return losses, list(params)

    async def host(self, peer: Peer, **server_config: Any) -> str:
        """Hosts it as a new model, version 1.0, as its owner's tools would; returns the model's name."""
        name = f"m-{secrets.token_hex(4)}"
        model = State.of(from_torch(param) for param in self.params).serialize()
        plans = {"training_plan": self.plan.hex()}
        await peer.host(name, model=model, plans=plans, client=self.client_config, server=server_config)
        return name

    @property
    def input_specs(self) -> list[PlanInputSpec]:
        """The inputs, as fedplan's own worker is told of them."""
        spec = PlanInputSpec
        known = {
            "data": [spec(spec.TYPE_DATA)],
            "target": [spec(spec.TYPE_TARGET)],
            "batch_size": [spec(spec.TYPE_BATCH_SIZE)],
            "lr": [spec(spec.TYPE_CLIENT_CONFIG_PARAM, "lr")],
            "params": [spec(spec.TYPE_MODEL_PARAM, index=i) for i in range(len(self.params))],
        }
        return [item for name in self.inputs for item in known[name]]

    @property
    def output_specs(self) -> list[PlanOutputSpec]:
        """The outputs, as fedplan's own worker is told of them."""
        spec = PlanOutputSpec
        return [
            spec(spec.TYPE_LOSS),
            *(spec(spec.TYPE_METRIC, f"metric {i}") for i in range(1, self.outputs)),
            *(spec(spec.TYPE_MODEL_PARAM, index=i) for i in range(len(self.params))),
        ]


def pysyft_mlp() -> Training:
    """A small perceptron that PySyft 0.2.9 made a Plan of, and translated for all clients."""
    folder = FIXTURES / "small_mlp_sgd"
    _, _, _, _, *params = State.parse((folder / "input.state.pb").read_bytes()).tensors
    return Training(
        plan=(folder / "as_sent_by_client.plan.pb").read_bytes(),
        params=tuple(to_torch(tensor) for tensor in params),
        inputs=("data", "target", "batch_size", "lr", "params"),
        outputs=2,
        client_config={"batch_size": 4, "lr": 0.2},
        batches=_made_up,
    )


def _made_up(seed: int, count: int, rows: int = 4) -> list[Batch]:
    """Random data; the targets follow from them, so that there is something to learn."""
    generator = torch.Generator().manual_seed(seed)
    teacher = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    data = [torch.randn(rows, 6, generator=generator) for _ in range(count)]
    return [(x, functional.one_hot((x @ teacher).argmax(1), 3)) for x in data]


def large() -> Training:
    """A model of 1.3 MB, whose report is a message that a browser sends in fragments.

    Its Plan draws the parameters towards zero, the faster the larger the data.
    """
    parameters = torch.randn(1000, 320, generator=torch.Generator().manual_seed(0))

    def step(data, target, lr, w):
        loss = (data * data).mean()
        return loss, w - w * lr * loss

    plan = trace(step, torch.ones(4, 6), torch.ones(4, 3).long(), torch.ones(1), parameters)
    return Training(
        plan=with_variants(plan, variants=["tfjs"]).serialize(),
        params=(parameters,),
        inputs=("data", "target", "lr", "params"),
        outputs=1,
        client_config={"batch_size": 4, "lr": 0.2},
        batches=_made_up,
    )


def half_frozen() -> Training:
    """A perceptron whose first layer stays as it is."""
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    model[0].requires_grad_(False)
    for tensor in model.state_dict().values():
        tensor.normal_(generator=generator)
    example = (torch.ones(4, 6), torch.zeros(4, dtype=torch.long))
    plan = training_plan(model, functional.cross_entropy, example=example)
    return Training(
        plan=with_variants(plan, variants=["tfjs"]).serialize(),
        params=tuple(model_parameters(model)),
        inputs=("data", "target", "lr", "params"),
        outputs=1,
        client_config={"batch_size": 4, "lr": 0.2},
        batches=lambda seed, count: [(x, y.argmax(1)) for x, y in _made_up(seed, count)],
    )


def with_dropout(probability: float = 0.5) -> Training:
    """A perceptron that drops out, on batches that are large enough for a loss with little noise."""
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(6, 64), torch.nn.ReLU(), torch.nn.Dropout(probability), torch.nn.Linear(64, 3)
    )
    for tensor in model.state_dict().values():
        tensor.normal_(0, 0.3, generator=generator)
    example = (torch.ones(4, 6), torch.zeros(4, dtype=torch.long))
    plan = training_plan(model, functional.cross_entropy, example=example)
    return Training(
        plan=with_variants(plan, variants=["tfjs"]).serialize(),
        params=tuple(model_parameters(model)),
        inputs=("data", "target", "lr", "params"),
        outputs=1,
        client_config={"batch_size": 64, "lr": 0.2},
        batches=lambda seed, count: [(x, y.argmax(1)) for x, y in _made_up(seed, count, rows=64)],
    )


TRAININGS = {"PySyft's MLP": pysyft_mlp, "a large model": large}

OTHERS = {"a frozen layer": half_frozen, "dropout": with_dropout}
"""Trainings of single tests."""
