"""A worker that does not train gives its place back, over real sockets; the real grid's cycle completes."""

import asyncio
import logging
import re
import signal
from typing import Any

import pytest

from fedplan.client import Job, ModelCentricFLClient, Retry, Syft, participate_async
from fedplan.errors import (
    ConfigError,
    CycleDeclinedError,
    GridConnectionError,
    JobStateError,
    PlanLimitError,
    WireError,
)
from fedplan.plan import Limits
from tests.client.small_grid import SmallGrid
from tests.client.training_cases import make_data, make_module, make_plan
from tests.processes import Process

IMAGES, LABELS = make_data(16)


class Round:
    """A hosted model whose cycle has one worker more than the one that is tested."""

    def __init__(self, url: str, name: str) -> None:
        self.url = url
        self.name = name
        self.owner = ModelCentricFLClient(url)

    async def host(self, **server_config: Any) -> None:
        await self.owner.host_federated_training_async(
            make_module(),
            {"training_plan": make_plan()},
            {"name": self.name, "version": "1.0", "batch_size": 8, "lr": 0.1},
            {"min_workers": 1, "max_workers": 2, "num_cycles": 1, **server_config},
            variants=[],
        )

    async def take_part(self, url: str | None = None, **options: Any) -> None:
        await participate_async(url or self.url, self.name, "1.0", IMAGES, LABELS, **options)

    async def accepted(self) -> int:
        return (await self.owner.status_async(self.name)).models[0].cycle.accepted

    async def completes(self) -> None:
        """One more worker reports, and the cycle waits for nobody else."""
        assert await self.accepted() == 0
        await self.take_part()
        model = await self.owner.wait_async(self.name, "1.0", finished=True, timeout=30)
        assert model.checkpoints[0].number == 2


@pytest.fixture(params=["http", "ws"])
async def round(url: str, request: pytest.FixtureRequest) -> Any:
    round = Round(url, request.node.name)
    await round.host()
    round.url = url.replace("http", request.param)
    yield round
    await round.owner.aclose()


async def test_a_job_that_declines_is_in_no_cycle_and_may_start_again(round: Round) -> None:
    async with Syft(round.url) as syft:
        job = syft.new_job(round.name, "1.0")
        await job.start()
        assert await round.accepted() == 1
        for _ in range(2):
            await job.decline("not today")
            assert await round.accepted() == 0
        with pytest.raises(JobStateError, match="in no cycle"):
            await job.report(b"")
        with pytest.raises(JobStateError):
            _ = job.model
        await job.start()
        assert await round.accepted() == 1
        await job.decline()
    await round.completes()


async def test_after_its_report_a_job_has_nothing_to_give_back(round: Round) -> None:
    async with Syft(round.url) as syft:
        job, other = (syft.new_job(round.name, "1.0") for _ in range(2))
        await job.start()
        await other.start()
        trained = await job.train("training_plan", data=IMAGES, target=LABELS).wait()
        await job.report(job.model.diff(trained).serialize())
        await job.decline()
        assert await round.accepted() == 2
        await other.decline()  # and the cycle, which waited for it, closes
    await round.owner.wait_async(round.name, "1.0", finished=True, timeout=30)


async def test_an_exception_in_the_accepted_handler_gives_the_place_back(round: Round) -> None:
    async with Syft(round.url) as syft:
        job = syft.new_job(round.name, "1.0")

        @job.on("accepted")
        async def fail() -> None:
            raise ZeroDivisionError("mine")

        with pytest.raises(ZeroDivisionError, match="mine"):
            await job.start()
    await round.completes()


async def test_a_plan_that_is_not_there_gives_the_place_back(round: Round) -> None:
    with pytest.raises(JobStateError, match="no Plan 'train'"):
        await round.take_part(plan="train")
    await round.completes()


async def test_a_training_that_fails_gives_the_place_back(round: Round) -> None:
    def fail(event: object) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        await round.take_part(events={"batch_end": fail})
    await round.completes()


async def test_the_cycle_does_not_wait_for_a_worker_that_is_gone(url: str) -> None:
    gone = f"""
import asyncio, os
from fedplan.client import Syft

async def run():
    job = Syft("{url}").new_job("gone", "1.0")
    await job.start()
    os.kill(os.getpid(), 9)

asyncio.run(run())
"""
    round = Round(url, "gone")
    await round.host(place_timeout=5.0)
    with Process("-c", gone) as killed:
        assert await asyncio.to_thread(killed.wait, 60) == -signal.SIGKILL
    assert await round.accepted() == 1
    await round.take_part()
    model = await round.owner.wait_async(round.name, "1.0", finished=True, timeout=30)
    assert model.checkpoints[0].number == 2
    await round.owner.aclose()


# Consent


async def refuses(job: Job) -> str:
    return f"{list(job.plans)} of {job.client_config['name']}: no"


@pytest.mark.parametrize(
    ("accept", "reason"),
    [(lambda job: False, "no reason"), (lambda job: "mine", "mine"), (refuses, "of .*: no")],
)
async def test_a_worker_that_does_not_accept_gives_the_place_back(
    round: Round, accept: Any, reason: str
) -> None:
    batches: list[object] = []
    with pytest.raises(CycleDeclinedError, match=reason) as refused:
        await round.take_part(accept=accept, events={"batch_start": batches.append})
    assert batches == []
    assert re.search(reason, refused.value.reason)
    await round.completes()


@pytest.mark.parametrize("answer", [None, 1, b"y"])
async def test_what_is_no_answer_is_no_consent(round: Round, answer: Any) -> None:
    with pytest.raises(ConfigError, match="True, False or a reason"):
        await round.take_part(accept=lambda job: answer)
    await round.completes()


async def test_an_accept_that_fails_gives_the_place_back(round: Round) -> None:
    async def accept(job: Job) -> bool:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError):
        await round.take_part(accept=accept)
    await round.completes()


async def test_who_accepts_trains_and_has_seen_what_runs(round: Round) -> None:
    seen: list[Job] = []

    async def accept(job: Job) -> bool:
        seen.append(job)
        return list(job.plans) == ["training_plan"] and job.cycle == 1

    await round.take_part(accept=accept)
    assert len(seen) == 1
    await round.owner.wait_async(round.name, "1.0", finished=True, timeout=30)


async def test_what_can_not_be_asked_is_refused_before_the_grid_is_asked(grid: SmallGrid) -> None:
    with pytest.raises(ConfigError, match="takes a Job"):
        await participate_async(grid.url, "m", "1.0", IMAGES, LABELS, accept=True)  # type: ignore[arg-type]
    assert grid.requests == []


async def test_a_plan_over_the_limits_gives_the_place_back(round: Round) -> None:
    with pytest.raises(PlanLimitError):
        await round.take_part(limits=Limits(max_bytes=100))
    await round.completes()


# Other grids


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_a_grid_that_does_not_know_the_call_lets_the_place_lapse(
    grid: SmallGrid, scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Syft(grid.url.replace("http", scheme)) as syft:
        job = syft.new_job("m", "1.0")
        await job.start()
        with caplog.at_level(logging.DEBUG, "fedplan"):
            await job.decline("a reason")
    assert grid.asked("decline") == [{"worker_id": "w-1", "request_key": "secret-key", "reason": "a reason"}]
    (record,) = [record for record in caplog.records if "lapses" in record.message]
    assert record.levelno == logging.DEBUG


async def test_a_plan_that_is_damaged_gives_the_place_back(grid: SmallGrid) -> None:
    grid.answer("get-plan", b"\xff\xff")
    async with Syft(grid.url) as syft:
        job = syft.new_job("m", "1.0")
        with pytest.raises(WireError):
            await job.start()
    assert len(grid.asked("decline")) == 1


async def test_a_job_that_is_cancelled_while_it_downloads_gives_the_place_back(grid: SmallGrid) -> None:
    arrived = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def stall(_: dict[str, Any]) -> bytes:
        loop.call_soon_threadsafe(arrived.set)
        await asyncio.sleep(1)
        return b""

    grid.answer("get-plan", stall)
    async with Syft(grid.url) as syft:
        starting = asyncio.create_task(syft.new_job("m", "1.0").start())
        await arrived.wait()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    assert [asked["reason"] for asked in grid.asked("decline")] == ["CancelledError"]


async def test_a_grid_that_went_away_does_not_hide_what_went_wrong(grid: SmallGrid) -> None:
    grid.answer("get-plan", b"\xff\xff")
    grid.answer("decline", *["close"] * 9)
    async with Syft(grid.ws_url, retry=Retry(attempts=1)) as syft:
        with pytest.raises(WireError):
            await syft.new_job("m", "1.0").start()
        job = syft.new_job("m", "1.0")
        await job.start()
        with pytest.raises(GridConnectionError):
            await job.decline()


async def test_the_grid_is_told_the_kind_of_an_error_and_not_its_text(grid: SmallGrid) -> None:
    async with Syft(grid.url) as syft:
        job = syft.new_job("m", "1.0")
        job.on("accepted", lambda: {}["the patient's name"])
        with pytest.raises(KeyError):
            await job.start()
    assert [asked["reason"] for asked in grid.asked("decline")] == ["KeyError"]
