import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.data
from torch import Tensor

from fedplan.client import (
    BatchEnd,
    SyftModel,
)
from fedplan.data import DataLoader, TensorDataset
from fedplan.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    ModelMismatchError,
    PlanInputError,
)
from fedplan.plan import PlanInputSpec, PlanOutputSpec, trace
from tests.client.training_cases import (
    make_data,
    make_model,
    make_plan,
    make_probe,
    make_source,
    make_trainer,
)


def make_probe_trainer(data: Any, target: Any = None, **changes: Any) -> Any:
    """A trainer that shows which data, targets and batch sizes the Plan was given."""
    arguments = {"plan": make_probe(), "model": SyftModel([torch.zeros(1)]), "client_config": {}}
    return make_trainer(**{**arguments, "data": data, "target": target, **changes})


async def seen(trainer: Any) -> list[tuple[float, float, float]]:
    events: list[BatchEnd] = []
    trainer.on("batch_end", events.append)
    await trainer.start()
    return [(e.metrics["data"], e.metrics["target"], e.metrics["size"]) for e in events]


def columns(count: int) -> tuple[Tensor, Tensor]:
    """Data whose rows are (i, 0) and targets that are 100·i, so that sums tell which rows were used."""
    rows = torch.arange(count, dtype=torch.float32)
    return torch.stack([rows, 0 * rows], dim=1), 100 * rows


async def test_a_last_smaller_batch_is_used_and_the_plan_is_told_its_size() -> None:
    data, target = columns(10)
    assert await seen(make_probe_trainer(data, target, batch_size=4)) == [
        (6, 600, 4),
        (22, 2200, 4),
        (17, 1700, 2),
    ]


async def test_a_plan_pinned_to_one_batch_size_leaves_the_rest_out_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "fedplan"):
        trainer = make_trainer(plan=make_plan(pin_batch=True))
    assert "batches of 4 samples only: the last 2 of 26 are left out" in caplog.text
    assert trainer.batches_per_epoch == 6
    await trainer.start()
    assert trainer.batch_idx == 6


def as_numpy(data: Tensor, target: Tensor) -> dict[str, Any]:
    return {"data": data.numpy().astype("float64"), "target": target.numpy().astype("int32")}


def as_list(data: Tensor, target: Tensor) -> dict[str, Any]:
    return {"data": [data], "target": (target,)}


def as_read_only(data: Tensor, target: Tensor) -> dict[str, Any]:
    array = data.numpy().copy()
    array.flags.writeable = False
    return {"data": array, "target": target}


def as_loader(data: Tensor, target: Tensor) -> dict[str, Any]:
    return {"data": DataLoader(TensorDataset(data, target), batch_size=4, shuffle=False)}


def as_torch_loader(data: Tensor, target: Tensor) -> dict[str, Any]:
    dataset = torch.utils.data.TensorDataset(data, target)
    return {"data": torch.utils.data.DataLoader(dataset, batch_size=4)}


def as_loader_of_dicts(data: Tensor, target: Tensor) -> dict[str, Any]:
    samples = [{"data": row, "target": value} for row, value in zip(data, target, strict=True)]
    return {"data": DataLoader(samples, batch_size=4, shuffle=False)}


def as_nested_loader(data: Tensor, target: Tensor) -> dict[str, Any]:
    samples = [((row,), value) for row, value in zip(data, target, strict=True)]
    return {"data": DataLoader(samples, batch_size=4, shuffle=False)}


def as_stream(data: Tensor, target: Tensor) -> dict[str, Any]:
    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(zip(data, target, strict=True))

    return {"data": torch.utils.data.DataLoader(Stream(), batch_size=4)}


@pytest.mark.parametrize(
    "form",
    [
        as_numpy,
        as_list,
        as_read_only,
        as_loader,
        as_torch_loader,
        as_loader_of_dicts,
        as_nested_loader,
        as_stream,
    ],
)
async def test_data_may_come_in_many_forms(form: Callable[[Tensor, Tensor], dict[str, Any]]) -> None:
    data, target = columns(10)
    assert await seen(make_probe_trainer(**form(data, target), batch_size=4)) == [
        (6, 600, 4),
        (22, 2200, 4),
        (17, 1700, 2),
    ]


async def test_several_data_inputs_are_picked_by_index_or_name() -> None:
    spec, out = PlanInputSpec, PlanOutputSpec
    plan = trace(
        lambda a, b, y: [a.sum(), b.sum(), y.sum()], torch.zeros(2, 2), torch.zeros(2, 3), torch.zeros(2)
    )
    outputs = [out(out.TYPE_METRIC, name) for name in ("a", "b", "y")]
    by_index = [spec(spec.TYPE_DATA, index=0), spec(spec.TYPE_DATA, index=1), spec(spec.TYPE_TARGET)]
    by_name = [spec(spec.TYPE_DATA, "left"), spec(spec.TYPE_DATA, "right"), spec(spec.TYPE_TARGET)]
    flat_index = [spec(spec.TYPE_DATA, index=i) for i in range(3)]  # as browsers do with a DataLoader
    a, b, y = torch.ones(4, 2), torch.ones(4, 3), torch.ones(4)
    rows = list(zip(a, b, y, strict=True))
    cases: list[tuple[list[PlanInputSpec], Any, Any]] = [
        (by_index, [a, b], y),
        (by_name, {"left": a, "right": b}, y),
        (by_index, DataLoader(rows, batch_size=4), None),
        (flat_index, DataLoader(rows, batch_size=4), None),
        (by_index, DataLoader([((p, q), r) for p, q, r in rows], batch_size=4), None),
        (
            by_name,
            DataLoader([{"left": p, "right": q, "target": r} for p, q, r in rows], batch_size=4),
            None,
        ),
        (by_name, DataLoader([({"left": p, "right": q}, r) for p, q, r in rows], batch_size=4), None),
    ]
    for inputs, data, target in cases:
        events: list[BatchEnd] = []
        trainer = make_trainer(
            plan=plan, model=SyftModel([]), inputs=inputs, outputs=outputs, data=data, target=target
        )
        trainer.on("batch_end", events.append)
        await trainer.start()
        assert [e.metrics for e in events] == [{"a": 8.0, "b": 12.0, "y": 4.0}]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"batch_size": None}, ConfigError, "no batch size.*batch_size=.*client_config"),
        ({"batch_size": 0}, ConfigError, "positive integer, not 0"),
        ({"client_config": {"rate": 1}}, ConfigError, "needs 'lr'.*keys are: rate"),
        ({"client_config": None}, ConfigError, "needs 'lr'.*keys are: none"),
        ({"target": torch.zeros(25, dtype=torch.int64)}, DataError, r"26 in data\[0\], 25 in target\[0\]"),
        ({"target": None}, DataError, r"needs target\[0\]; `target` holds: nothing"),
        ({"data": "images"}, DataError, "`data` is a str"),
        ({"data": []}, DataError, "`data` is empty"),
        ({"data": torch.zeros(0, 6), "target": torch.zeros(0)}, DataError, "nothing to train on"),
        ({"data": [torch.zeros(26, 6)] * 2}, DataError, r"2 tensors, and the Plan does not take data\[1\]"),
        ({"data": [torch.zeros(26, 6), 3]}, DataError, r"`data\[1\]` is a int"),
        (make_source("torch loader") | {"target": torch.zeros(26)}, DataError, "leave `target` out"),
        ({"epochs": 0}, ConfigError, "epochs must be a positive integer"),
        ({"steps_per_epoch": True}, ConfigError, "steps_per_epoch must be"),
        ({"epochs": np.True_}, ConfigError, "epochs must be a positive integer"),
        ({"batch_size": torch.tensor(True)}, ConfigError, "positive integer, not tensor"),
        ({"batch_size": 4.0}, ConfigError, "positive integer, not 4.0"),
        ({"client_config": {"lr": None}}, ConfigError, "needs 'lr', which is null"),
        ({"client_config": {"lr": "0.1"}}, ConfigError, "'lr' as a number .* it is a str"),
        ({"client_config": ["lr"]}, ConfigError, "client_config: a dict is needed"),
        ({"events": ["end"]}, ConfigError, "events must be a dict of handlers"),
        ({"events": {"end": None}}, ConfigError, "handler of 'end' must be a function"),
        ({"checkpoint": {"epochs": 1}}, CheckpointError, "its from_json reads one"),
        ({"plan": b"plan"}, ConfigError, "a Plan and a SyftModel, not a bytes"),
        ({"model": make_model().params}, ConfigError, "a Plan and a SyftModel, not .* a list"),
        ({"inputs": ["data"] * 7}, ConfigError, "inputs name 'data' twice"),
        ({"inputs": ["data", PlanInputSpec("target")]}, ConfigError, "a list of names; it holds a str"),
        ({"inputs": "data,target"}, ConfigError, "a list of names; it holds a str"),
        ({"outputs": 5}, ConfigError, "a list of PlanOutputSpec, or .* it holds a int"),
        ({"inputs": [PlanInputSpec("data")]}, ConfigError, "takes 7 inputs .* there are 1 specs"),
        ({"outputs": [PlanOutputSpec("loss")] * 7}, ConfigError, "returns 6 values; there are 7 specs"),
        ({"model": SyftModel([torch.zeros(1)])}, ModelMismatchError, "modelParam 1, and there are 1 of them"),
        ({"outputs": [PlanOutputSpec("modelParam")]}, ConfigError, "modelParam needs an index"),
    ],
)
def test_what_is_wrong_is_said_before_the_training(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make_trainer(**changes)


async def test_data_of_the_wrong_kind_is_refused_by_the_plan() -> None:
    with pytest.raises(PlanInputError, match="dtype"):
        await make_trainer(target=torch.zeros(26)).start()  # floats where class numbers are needed


async def test_a_batch_without_the_targets_is_described() -> None:
    images, _ = make_data()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images), batch_size=4)
    with pytest.raises(DataError, match=r"target should stand at batch\[1\].*of the form \(Tensor\)"):
        await make_trainer(data=loader, target=None).start()


def test_batches_per_epoch_is_known_but_for_streams() -> None:
    assert make_trainer().batches_per_epoch == 7
    assert make_trainer(**make_source("fedplan loader"), steps_per_epoch=3).batches_per_epoch == 3
    assert make_trainer(**make_source("torch loader")).batches_per_epoch == 7
    data, target = columns(10)
    assert make_probe_trainer(**as_stream(data, target)).batches_per_epoch is None


def test_numpy_arrays_are_not_copied_when_the_dtype_fits() -> None:
    images = np.zeros((8, 6), np.float32)
    trainer = make_trainer(data=images, target=torch.zeros(8, dtype=torch.int64))
    images[0, 0] = 5
    batch = next(trainer._epochs.source.open())
    assert batch[0][0, 0] == 5
