"""Training on the CPU and on accelerators: the same training, and results that are on the CPU.

On a machine with one, ``pytest -m gpu tests`` runs what is skipped elsewhere.
"""

import functools
import json
import pathlib
from typing import Any

import pytest
import torch
import torch.utils.data
from torch import Tensor, nn
from torch.nn import functional as F

from fedplan.client import (
    ModelCentricFLClient,
    PlanTrainer,
    PlanTrainerCheckpoint,
    Syft,
    SyftModel,
    participate_async,
)
from fedplan.client.training.device import usable_device
from fedplan.errors import ConfigError
from fedplan.plan import Plan, StepContext, accuracy, model_parameters, training_plan
from tests.client.small_grid import SmallGrid
from tests.client.training_cases import make_trainer
from tests.devices import ACCELERATORS, DEVICES

everywhere = pytest.mark.parametrize("device", DEVICES)
on_accelerators = pytest.mark.parametrize("device", ACCELERATORS)
"""What the CPU does is compared with what they do."""

STEPS, BATCH = 5, 4


class Pictures(nn.Module):
    """Convolution, batch norm, dropout and pooling."""

    def __init__(self) -> None:
        super().__init__()
        convolution = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.layers = nn.Sequential(
            convolution, nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.3), nn.Flatten(),
            nn.Linear(64, 3),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Sequences(nn.Module):
    """Embedding, a recurrent layer of some kind, and attention."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.recurrent = getattr(nn, kind)(6, 6, batch_first=True, bidirectional=True)
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.recurrent(self.embedding(x))[0]
        return self.head(F.scaled_dot_product_attention(y, y, y).mean(1))


def penalised(output: Tensor, target: Tensor, step: StepContext) -> Tensor:
    """Reads all that a step may know."""
    apart = sum((p - step.received[name]).square().sum() for name, p in step.parameters.items())
    return F.cross_entropy(output, target) / (step.number + step.cycle) + step.config["mu"] * apart


def case(kind: str) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(1)
    labels = torch.arange(18) % 3
    if kind == "pictures":
        return Pictures(), torch.randn(18, 1, 8, 8), labels
    return Sequences(kind), torch.randint(11, (18, 7)), labels


@pytest.fixture(autouse=True)
def _whole_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuDNN's convolutions and recurrent layers use fewer digits by default."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@functools.cache
def plan_of(kind: str) -> Plan:
    module, x, y = case(kind)
    optimizer = functools.partial(torch.optim.SGD, momentum=0.9) if kind == "pictures" else torch.optim.SGD
    return training_plan(
        module, penalised, example=(x, y), optimizer=optimizer, config=["mu"], metrics={"accuracy": accuracy}
    )


def trainer(kind: str = "pictures", data: str = "tensors", **options: Any) -> PlanTrainer:
    module, x, y = case(kind)
    given: dict[str, Any] = {"data": x, "target": y, "batch_size": BATCH}
    if data == "arrays":
        given = {"data": x.numpy(), "target": y.numpy(), "batch_size": BATCH}
    elif data == "loader":
        dataset = torch.utils.data.TensorDataset(x, y)
        given = {"data": torch.utils.data.DataLoader(dataset, batch_size=BATCH)}
    config = {"lr": 0.05, "mu": 0.1}
    return PlanTrainer(
        plan=plan_of(kind), model=SyftModel(model_parameters(module)), client_config=config, seed=5, cycle=2,
        **given, **options,
    )  # fmt: skip


def assert_alike(ours: SyftModel, theirs: SyftModel) -> None:
    for one, other in zip(ours.params, theirs.params, strict=True):
        assert one.device.type == "cpu"
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


async def test_the_cpu_is_the_device_when_none_is_named() -> None:
    named, usual = trainer(device="cpu"), trainer()
    for training in (named, usual):
        await training.start()
    assert named.current_model.serialize() == usual.current_model.serialize()


@on_accelerators
@pytest.mark.parametrize("data", ["tensors", "arrays", "loader"])
@pytest.mark.parametrize("kind", ["pictures", "LSTM", "GRU", "RNN"])
async def test_a_training_is_that_of_the_cpu(device: str, kind: str, data: str) -> None:
    """Random inputs are the same bits on every device, and so are the masks of dropout."""
    losses: dict[str, list[float]] = {"here": [], "there": []}
    trained = {}
    for where, place in (("here", None), ("there", device)):
        training = trainer(kind, data, device=place)
        training.on("batch_end", lambda e, to=losses[where]: to.append((e.loss, e.metrics["accuracy"])))
        await training.start()
        trained[where] = training.current_model
    assert_alike(trained["there"], trained["here"])
    torch.testing.assert_close(
        torch.tensor(losses["there"]), torch.tensor(losses["here"]), rtol=1e-3, atol=1e-4
    )


@on_accelerators
async def test_the_plan_really_runs_there(device: str) -> None:
    training = trainer(device=device)
    assert training._step.params[0].device.type == device
    await training.start()
    assert {tensor.device.type for tensor in training._step.params} == {device}
    assert {tensor.device.type for tensor in training._step.optimizer_state} == {device}


@on_accelerators
async def test_data_that_is_on_a_device_already_is_used_from_there(device: str) -> None:
    _, x, y = case("pictures")
    whole = trainer()
    await whole.start()
    for place in (None, device):  # to the CPU, or staying where it is
        training = trainer(device=place)
        moved = PlanTrainer(
            plan=training.plan, model=training.original_model, data=x.to(device), target=y.to(device),
            batch_size=BATCH, client_config=training.client_config, seed=5, cycle=2, device=place,
        )  # fmt: skip
        await moved.start()
        assert_alike(moved.current_model, whole.current_model)


@on_accelerators
async def test_a_checkpoint_goes_on_on_another_device(device: str) -> None:
    whole = trainer()
    await whole.start()
    for first, second in ((device, None), (None, device), (device, device)):
        stopped = trainer(device=first)
        stopped.on("batch_end", lambda e, t=stopped: t.stop() if e.batch == 1 else None)
        await stopped.start()
        kept = json.loads(json.dumps(stopped.create_checkpoint().to_dict()))
        checkpoint = PlanTrainerCheckpoint.from_json(None, kept)
        resumed = trainer(device=second, checkpoint=checkpoint)
        await resumed.resume()
        assert_alike(resumed.current_model, whole.current_model)


@everywhere
async def test_a_model_of_a_device_is_hosted_trained_there_and_loaded_back(
    url: str, device: str, tmp_path: pathlib.Path
) -> None:
    module, x, y = case("pictures")
    module.to(device)
    plan = training_plan(module, F.cross_entropy, example=(x.to(device), y.to(device)), private=["*.0.*"])
    name = f"on {device}"
    async with ModelCentricFLClient(url) as owner:
        await owner.host_federated_training_async(
            module,
            {"training_plan": plan},
            {"name": name, "version": "1.0", "batch_size": BATCH, "lr": 0.05},
            {"max_diffs": 1},
            variants=[],
        )
        options: dict[str, Any] = {"verbose": True, "wait": 30.0, "state": tmp_path / "mine", "seed": 3}
        result = await participate_async(url, name, "1.0", x, y, cycles=2, device=device, **options)
        assert result.cycles == 2
        await owner.wait_async(name, "1.0", checkpoint=3, timeout=60)
        async with Syft(url, verbose=True) as syft:
            job = syft.new_job(name, "1.0", state=tmp_path / "mine")
            await job.start()
            training = job.train("training_plan", data=x, target=y, device=device)
            assert_alike(await training.wait(), training.current_model)
            diff = job.model.diff(model_parameters(module))  # a module on the device
            assert {tensor.device.type for tensor in diff.params} == {"cpu"}
        trained = await owner.retrieve_model_async(name, "1.0")
    before = [p.cpu().clone() for p in model_parameters(module)]
    trained.load_into(module)
    assert {p.device.type for p in model_parameters(module)} == {device}
    assert torch.equal(before[0], model_parameters(module)[0].cpu())  # private
    assert not torch.equal(before[4], model_parameters(module)[4].cpu())


MISSING = [
    "cuda:99",
    "nonsense",
    "cuda:x",
    "meta",
    3.5,
    ("cuda", 0),
    *(["cuda"] if not torch.cuda.is_available() else []),
]


@everywhere
@pytest.mark.parametrize("wrong", MISSING, ids=str)
async def test_a_device_that_is_not_here_is_said_before_the_grid_is_asked(
    grid: SmallGrid, device: str, wrong: Any
) -> None:
    images, labels = torch.randn(4, 6), torch.zeros(4, dtype=torch.long)
    with pytest.raises(ConfigError, match=r"there is no training on the device .* PyTorch finds cpu"):
        await participate_async(grid.url, "m", "1.0", images, labels, verbose=True, device=wrong)
    assert grid.requests == []
    with pytest.raises(ConfigError, match="there is no training on the device"):
        make_trainer(device=wrong)
    assert usable_device(device).type == device
