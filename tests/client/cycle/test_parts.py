"""A worker downloads once what is frozen and reports what changes, where the grid takes that."""

import asyncio
import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from starlette.responses import JSONResponse
from torch import Tensor, nn

from fedplan.client import ModelCentricFLClient, PlanTrainerCheckpoint, Syft, SyftModel, participate_async
from fedplan.errors import GridResponseError, ModelMismatchError, WireError
from fedplan.grid import Settings, create_app
from fedplan.plan import Plan, from_torch, model_parameters, training_plan
from fedplan.wire import State
from tests.client.small_grid import SmallGrid, serve
from tests.client.training_cases import make_data, make_model

SIZE, RANK, BATCH = 1000, 4, 8
CHANGING = (0, 1)
CONFIG = {"name": "adapted", "version": "1.0", "batch_size": BATCH, "lr": 0.5}


class Adapted(nn.Module):
    """A layer of 1,001,000 numbers that stays as it is, and 8,000 beside it that are trained."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.down = nn.Parameter(torch.randn(SIZE, RANK, generator=generator) / 30)
        self.up = nn.Parameter(torch.randn(RANK, SIZE, generator=generator) / 30)
        self.base = nn.Linear(SIZE, SIZE).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.down @ self.up


@dataclasses.dataclass
class Line:
    """An ASGI app before a grid that notes how many bytes go each way; maybe it lets no bytes through."""

    app: Any
    lets_bytes_through: bool = True
    uploads: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    downloads: dict[str, list[int]] = dataclasses.field(default_factory=dict)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        binary = dict(scope["headers"]).get(b"content-type") == b"application/octet-stream"
        if binary and not self.lets_bytes_through:  # as a server that knows only JSON
            await JSONResponse({"error": "the message is not JSON"}, 400)(scope, receive, send)
            return
        name = scope["path"].rpartition("/")[2]
        part = next((p for p in ("frozen", "changing") if f"part={p}" in scope["query_string"].decode()), "")
        up = down = 0

        async def receiving() -> Any:
            nonlocal up
            message = await receive()
            up += len(message.get("body", b""))
            return message

        async def sending(message: Any) -> None:
            nonlocal down
            down += len(message.get("body", b""))
            await send(message)

        await self.app(scope, receiving, sending)
        self.uploads.setdefault(name, []).append(up)
        self.downloads.setdefault(f"{name} {part}".strip(), []).append(down)


@pytest.fixture(scope="module")
def module() -> Adapted:
    return Adapted()


@pytest.fixture(scope="module")
def plan(module: Adapted) -> Plan:
    return training_plan(module, nn.functional.mse_loss, example=data_of(0))


def data_of(worker: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(worker)
    return torch.randn(16, SIZE, generator=generator), torch.randn(16, SIZE, generator=generator)


@contextlib.contextmanager
def line_to_grid(folder: pathlib.Path, **options: Any) -> Iterator[tuple[Line, str]]:
    line = Line(create_app(Settings(data_dir=folder, poll_seconds=0.05, retry_seconds=0.5)), **options)
    with serve(line) as url:
        yield line, url


async def host(url: str, module: nn.Module, plan: Plan, **server_config: Any) -> None:
    async with ModelCentricFLClient(url) as owner:
        await owner.host_federated_training_async(
            module,
            {"training_plan": plan},
            CONFIG,
            {"min_diffs": 2, "max_diffs": 2, **server_config},
            variants=[],
        )


async def checkpoint(url: str, number: int) -> list[Tensor]:
    async with ModelCentricFLClient(url) as owner:
        await owner.wait_async("adapted", "1.0", checkpoint=number, timeout=60)
        return (await owner.retrieve_model_async("adapted", "1.0", number)).params


def by_hand(module: nn.Module, plan: Plan, cycles: int) -> list[Tensor]:
    """The model after so many cycles of two workers."""
    model, lr = model_parameters(module), torch.tensor([CONFIG["lr"]])
    for _ in range(cycles):
        trained = []
        for worker in range(2):
            params = model
            for x, y in zip(*(part.split(BATCH) for part in data_of(worker)), strict=True):
                params = plan(x, y, lr, *params)[1:]
            trained.append(params)
        model = [(one + other) / 2 for one, other in zip(*trained, strict=True)]
    return model


@pytest.mark.parametrize("lets_bytes_through", [True, False], ids=["bytes", "JSON"])
async def test_two_workers_train_a_few_tensors_of_a_large_model(
    tmp_path: pathlib.Path, module: Adapted, plan: Plan, lets_bytes_through: bool
) -> None:
    with line_to_grid(tmp_path, lets_bytes_through=lets_bytes_through) as (line, url):
        await host(url, module, plan, num_cycles=3)
        results = await asyncio.gather(
            *(
                participate_async(u, "adapted", "1.0", *data_of(worker), verbose=True, cycles=3, wait=True)
                for worker, u in enumerate((url, url.replace("http", "ws") if lets_bytes_through else url))
            )
        )
        assert [result.cycles for result in results] == [3, 3]
        trained = await checkpoint(url, 4)
    reports = sorted(line.uploads["report"])
    assert len(reports) == 6
    assert 32_000 < reports[0] <= reports[-1] <= (36_000 if lets_bytes_through else 48_000)
    frozen = sorted(line.downloads["get-model frozen"], reverse=True)
    assert frozen[1] > 3_000_000
    assert frozen[2:] == [0] * 4  # what is here already is not sent again
    assert len(line.downloads["get-model changing"]) == 6
    assert max(line.downloads["get-model changing"]) <= 36_000
    assert "get-model" not in line.downloads
    stored = sorted(path.stat().st_size for path in (tmp_path / "blobs/models").iterdir())
    assert stored[-2] <= 36_000
    assert stored[-1] >= 4_000_000
    for place, (ours, expected) in enumerate(zip(trained, by_hand(module, plan, 3), strict=True)):
        torch.testing.assert_close(ours, expected, rtol=0, atol=0 if place not in CHANGING else 1e-5)
        assert torch.equal(ours, model_parameters(module)[place]) == (place not in CHANGING)


@pytest.mark.parametrize(("format", "most"), [("float16", 17_000), ("int8", 9_000), ("topk", 1_000)])
async def test_a_report_in_fewer_bytes_holds_what_changes_too(
    tmp_path: pathlib.Path, module: Adapted, plan: Plan, format: str, most: int
) -> None:
    with line_to_grid(tmp_path) as (line, url):
        await host(url, module, plan, report_formats=[format], max_diffs=1, min_diffs=1)
        await participate_async(url, "adapted", "1.0", *data_of(0), verbose=True)
        trained = await checkpoint(url, 2)
    assert max(line.uploads["report"]) <= most
    before = model_parameters(module)
    changed = {place for place, ours in enumerate(trained) if not torch.equal(ours, before[place])}
    if format == "topk":  # the largest numbers of all; they may stand in one tensor
        assert changed
        assert changed <= set(CHANGING)
    else:
        assert changed == set(CHANGING)


async def test_a_jobs_model_and_its_checkpoints_are_the_whole_model(
    tmp_path: pathlib.Path, module: Adapted, plan: Plan
) -> None:
    with line_to_grid(tmp_path) as (line, url):
        await host(url, module, plan)
        async with Syft(url, verbose=True) as syft:
            jobs = [syft.new_job("adapted", "1.0") for _ in range(2)]
            x, y = data_of(0)
            for job, whole in zip(jobs, (True, False), strict=True):
                await job.start()
                assert job.model.changing == CHANGING
                for ours, hosted in zip(job.model.params, model_parameters(module), strict=True):
                    assert torch.equal(ours, hosted)
                training = job.train("training_plan", data=x, target=y)
                trained = await training.wait()
                kept = PlanTrainerCheckpoint.from_json(syft, await training.create_checkpoint().to_json())
                assert [p.shape for p in kept.current_model.params] == [p.shape for p in trained.params]
                diff = job.model.diff(trained).serialize()
                part = await job.model.create_serialized_diff_from_model(trained)
                assert State.parse(part).places == CHANGING
                await job.report(diff if whole else part)
        changed = await checkpoint(url, 2)
    assert sorted(line.downloads["get-model frozen"])[0] == 0  # the second job's is the first one's
    for place in CHANGING:
        torch.testing.assert_close(changed[place], trained.params[place], rtol=0, atol=1e-7)


class TestAGridThatDoesNotKnowOfParts:
    """As PyGrid does: it ignores what it does not know, and takes whole diffs only."""

    async def test_sends_the_whole_model_once_and_gets_the_whole_diff(self, grid: SmallGrid) -> None:
        images, labels = make_data()
        await participate_async(grid.url, "m", "1.0", images, labels, verbose=True)
        assert [query.get("part") for query in grid.asked("get-model")] == ["changing"]
        (report,) = grid.asked("report")
        assert len(grid.diffs[0].params) == len(make_model().params)
        assert "fedplan-param" not in str(State.parse(grid.diffs[0].serialize()).message.placeholders)
        assert report.keys() == {"worker_id", "request_key", "diff"}


@pytest.mark.parametrize(
    ("changing", "frozen"),
    [((0, 1), (3,)), ((0, 1), (1, 2, 3)), ((0, 1), (2, 4)), ((0, 1), None), ((0, 2), (2, 3))],
)
async def test_parts_that_make_no_whole_are_an_error(
    grid: SmallGrid, changing: tuple[int, ...], frozen: tuple[int, ...] | None
) -> None:
    tensors = [from_torch(param) for param in make_model().params]  # four of them

    def part(places: tuple[int, ...] | None) -> bytes:
        return State.of(tensors[: 2 if places is None else len(places)], places).serialize()

    grid.answer("get-model", part(changing), part(frozen))
    async with Syft(grid.url, verbose=True) as syft:
        with pytest.raises(GridResponseError, match="do not make a whole"):
            await syft.new_job("m", "1.0").start()


class TestAModelOfWhichAPartIsFrozen:
    model = SyftModel([torch.ones(2), torch.ones(3), torch.ones(1)], (0, 2))

    async def test_reports_what_changes(self) -> None:
        diff = State.parse(
            await self.model.create_serialized_diff([torch.zeros(2), torch.ones(3), torch.ones(1)])
        )
        assert diff.places == (0, 2)
        assert [tensor.array.tolist() for tensor in diff.tensors] == [[1, 1], [0]]

    async def test_does_not_report_a_change_of_the_rest(self) -> None:
        changed = SyftModel([torch.zeros(2), torch.tensor([1, 1, 1.5]), torch.ones(1)])
        with pytest.raises(ModelMismatchError, match="parameter 1 of the model was changed, and is frozen"):
            await self.model.create_serialized_diff_from_model(changed)

    def test_is_not_read_from_a_part(self) -> None:
        part = State.of([from_torch(torch.ones(2))], (1,)).serialize()
        with pytest.raises(WireError, match="holds only the tensors 1 of a model"):
            SyftModel.parse(part)
