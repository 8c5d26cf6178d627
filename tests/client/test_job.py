import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import torch
from starlette.responses import JSONResponse

from fedplan.client import Accepted, Job, PlanTrainer, Rejected, Retry, Syft, SyftModel
from fedplan.errors import (
    ConfigError,
    CycleDeclinedError,
    CycleRejectedError,
    FedplanError,
    GridResponseError,
    JobStateError,
    UnknownEventError,
    WireError,
)
from fedplan.plan import Plan
from fedplan.wire import schema
from tests.client.small_grid import SmallGrid
from tests.client.training_cases import make_data, make_trainer

IMAGES, LABELS = make_data()


@pytest.fixture(params=["http", "ws"])
async def syft(grid: SmallGrid, request: pytest.FixtureRequest) -> AsyncIterator[Syft]:
    url = grid.url if request.param == "http" else grid.ws_url
    async with Syft(url, verbose=True, retry=Retry(attempts=1)) as syft:
        yield syft


@pytest.fixture
def job(syft: Syft) -> Job:
    return syft.new_job("m", "1.0")


async def test_start_authenticates_joins_and_downloads(grid: SmallGrid, job: Job) -> None:
    grid.protocols = {"secure": schema.Protocol(name="secure").encode()}
    await job.start()
    assert [name for name, _ in grid.requests[:2]] == ["authenticate", "cycle-request"]
    assert {name for name, _ in grid.requests[2:]} == {"get-model", "get-plan", "get-protocol"}
    assert job.worker_id == "w-1"
    assert job.model.serialize() == grid.model.serialize()
    assert isinstance(job.plans["training_plan"], Plan)
    assert job.protocols["secure"].name == "secure"
    assert job.client_config == grid.client_config


async def test_consent_is_asked_with_what_would_run(grid: SmallGrid, job: Job) -> None:
    asked: list[tuple[list[str], dict[str, Any], bool]] = []

    async def accept(job: Job) -> bool:
        asked.append((list(job.plans), job.client_config, job.model is not None))
        return True

    await job.start(accept=accept)
    assert asked == [(["training_plan"], grid.client_config, True)]


async def test_a_job_whose_consent_is_refused_is_in_no_cycle(grid: SmallGrid, job: Job) -> None:
    accepted: list[Accepted] = []
    job.on("accepted", accepted.append)
    with pytest.raises(CycleDeclinedError, match="not this Plan"):
        await job.start(accept=lambda job: "not this Plan")
    assert accepted == []
    assert job.task is None
    assert [data["reason"] for data in grid.asked("decline")] == ["not this Plan"]


async def test_who_cannot_be_asked_is_refused_before_the_grid_is_asked(grid: SmallGrid, job: Job) -> None:
    with pytest.raises(ConfigError, match="accept must be a function"):
        await job.start(accept=True)  # type: ignore[arg-type]
    assert grid.requests == []


async def test_accepted_comes_with_the_model_and_the_client_config(grid: SmallGrid, job: Job) -> None:
    events: list[Accepted] = []
    job.on("accepted", events.append)
    await job.request()
    assert [e.model for e in events] == [job.model]
    assert events[0].client_config == grid.client_config


async def test_rejected_comes_with_the_timeout(grid: SmallGrid, job: Job) -> None:
    events: list[Rejected] = []
    job.on("rejected", events.append)
    grid.answer("cycle-request", {"status": "rejected", "timeout": 3}, {"status": "rejected"})
    await job.start()
    await job.start()
    assert events == [Rejected(3.0), Rejected(None)]
    await job.start()  # and accepted at last
    assert job.plans


async def test_a_job_that_asks_again_is_in_no_cycle_until_it_is_accepted(grid: SmallGrid, job: Job) -> None:
    await job.start()
    grid.answer("cycle-request", {"status": "rejected"})
    with pytest.raises(CycleRejectedError):
        await job.start()
    assert job.plans == {}
    with pytest.raises(JobStateError, match="in no cycle"):
        await job.report(b"")


async def test_a_rejection_that_nobody_listens_to_is_raised(grid: SmallGrid, job: Job) -> None:
    grid.answer("cycle-request", {"status": "rejected", "timeout": 3}, {"status": "rejected"})
    with pytest.raises(CycleRejectedError, match=r"'m' 1\.0: ask again in 3 s") as error:
        await job.start()
    assert error.value.timeout == 3.0
    with pytest.raises(CycleRejectedError, match="takes no more workers") as error:
        await job.start()
    assert error.value.timeout is None


async def test_error_is_told_to_who_listens_and_raised_otherwise(grid: SmallGrid, job: Job) -> None:
    grid.answer("authenticate", {"error": "wrong token"}, {"error": "wrong token"})
    with pytest.raises(GridResponseError, match="wrong token"):
        await job.start()
    errors: list[FedplanError] = []
    job.on("error", errors.append)
    await job.start()
    assert [type(e) for e in errors] == [GridResponseError]


async def test_a_plan_or_model_that_cannot_be_read_is_an_error(grid: SmallGrid, job: Job) -> None:
    grid.answer("get-model", b"\xff\xff")
    with pytest.raises(WireError):
        await job.start()
    grid.answer("get-plan", b"\xff\xff")
    with pytest.raises(WireError):
        await job.start()


async def test_an_exception_in_an_accepted_handler_reaches_start_and_not_the_error_event(job: Job) -> None:
    errors: list[FedplanError] = []
    job.on("error", errors.append)

    @job.on("accepted")
    async def fail(event: Accepted) -> None:
        raise JobStateError("mine")

    with pytest.raises(JobStateError, match="mine"):
        await job.start()
    assert errors == []


def test_an_unknown_event_is_an_error_that_lists_the_events(job: Job) -> None:
    with pytest.raises(UnknownEventError, match="accepted, rejected, error"):
        job.on("done")


async def test_a_speed_test_is_made_only_when_the_grid_asks(grid: SmallGrid, syft: Syft) -> None:
    await syft.new_job("m", "1.0").start()
    assert grid.asked("speed-test") == []
    grid.requires_speed_test = True
    await syft.new_job("m", "1.0").start()
    assert grid.asked("speed-test")
    sent = grid.asked("cycle-request")[-1]
    assert sent["ping"] > 0
    assert sent["download"] > 0
    assert sent["upload"] > 0


async def test_a_job_that_is_started_again_asks_as_the_same_worker(grid: SmallGrid, job: Job) -> None:
    grid.requires_speed_test = True
    await job.start()
    measured = len(grid.asked("speed-test"))
    await job.start()
    first, second = grid.asked("cycle-request")
    assert first == second
    assert len(grid.asked("authenticate")) == 1
    assert len(grid.asked("speed-test")) == measured


async def test_the_references_example_runs(grid: SmallGrid, job: Job) -> None:
    @job.on("accepted")
    async def accepted(event: Accepted) -> None:
        training = job.train("training_plan", data=IMAGES, target=LABELS)

        @training.on("end")
        async def end() -> None:
            diff = await event.model.create_serialized_diff_from_model(training.current_model)
            await job.report(diff)

        await training.wait()

    await job.request()
    expected = make_trainer()
    await expected.start()
    diff = grid.model.diff(expected.current_model)
    assert grid.diffs[0].serialize() == diff.serialize()
    assert grid.asked("report")[0]["request_key"] == "secret-key"


async def test_train_starts_by_itself_and_takes_its_numbers_from_the_client_config(
    grid: SmallGrid, job: Job
) -> None:
    grid.client_config.update(max_epochs=2, max_updates=3)
    await job.start()
    trainer = job.train("training_plan", data=IMAGES, target=LABELS)
    assert (trainer.epochs, trainer.steps_per_epoch, trainer.batch_size) == (2, 3, 4)
    await trainer.wait()
    assert (trainer.epoch, trainer.batch_idx) == (1, 3)


async def test_what_train_is_told_wins_over_the_client_config(grid: SmallGrid, job: Job) -> None:
    grid.client_config.update(max_epochs=2, max_updates=3)
    await job.start()
    log: list[Any] = []
    trainer = job.train(
        "training_plan",
        data=IMAGES,
        target=LABELS,
        epochs=1,
        steps_per_epoch=5,
        batch_size=2,
        events={"end": log.append},
    )
    assert (trainer.epochs, trainer.steps_per_epoch, trainer.batch_size) == (1, 5, 2)
    await trainer.wait()
    assert len(log) == 1


async def test_train_goes_on_from_a_checkpoint_by_itself(job: Job) -> None:
    await job.start()
    trainer = job.train("training_plan", data=IMAGES, target=LABELS, epochs=2)
    trainer.on("batch_end", trainer.stop)
    await trainer.wait()
    whole = job.train("training_plan", data=IMAGES, target=LABELS, epochs=2)
    resumed = job.train("training_plan", data=IMAGES, target=LABELS, checkpoint=trainer.create_checkpoint())
    assert (await resumed.wait()).serialize() == (await whole.wait()).serialize()


async def test_an_unknown_plan_lists_the_plans(job: Job) -> None:
    await job.start()
    with pytest.raises(JobStateError, match="no Plan 'train'; its Plans are: 'training_plan'"):
        job.train("train", data=IMAGES, target=LABELS)


async def test_a_job_that_is_in_no_cycle_says_so(job: Job) -> None:
    with pytest.raises(JobStateError, match="await start"):
        job.train("training_plan", data=IMAGES)
    with pytest.raises(JobStateError, match="in no cycle"):
        await job.report(b"")
    with pytest.raises(JobStateError):
        _ = job.model


@pytest.mark.parametrize("diff", [None, "diff", SyftModel([torch.zeros(1)]), [torch.zeros(1)]])
async def test_a_report_that_is_not_bytes_is_refused_and_not_sent(
    grid: SmallGrid, job: Job, diff: Any
) -> None:
    await job.start()
    with pytest.raises(WireError, match="create_serialized_diff_from_model"):
        await job.report(diff)
    assert grid.asked("report") == []


@pytest.mark.parametrize(("name", "key"), [(None, "model_name"), ("a\0b", "model_name")])
async def test_a_name_that_no_message_can_hold_is_refused(syft: Syft, name: Any, key: str) -> None:
    with pytest.raises(ConfigError, match=f"'{key}'"):
        await syft.new_job(name, "1.0").start()


async def test_a_refused_report_is_raised_with_the_grids_words(grid: SmallGrid, job: Job) -> None:
    await job.start()
    grid.answer("report", {"error": "the cycle is over"})
    with pytest.raises(GridResponseError, match="the cycle is over"):
        await job.report(SyftModel([torch.zeros(1)]).serialize())


async def test_the_log_holds_what_happens_and_no_token_and_no_key(
    grid: SmallGrid, syft: Syft, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        job = syft.new_job("m", "1.0", auth_token="t0ken")
        await job.start()
        await job.report(b"")
    assert "accepted into a cycle of 'm' 1.0" in caplog.text
    assert "reported a diff" in caplog.text
    own = [r.getMessage() for r in caplog.records if r.name.startswith(("fedplan", "httpx", "httpcore"))]
    assert not any("t0ken" in line or "secret-key" in line for line in own)
    assert "t0ken" not in repr(job) + str(vars(syft))


def test_blocking_twins_do_the_whole_cycle(grid: SmallGrid) -> None:
    with Syft(grid.url, verbose=True) as syft:
        job = syft.new_job("m", "1.0")
        job.start_blocking()
        trainer = job.train_blocking("training_plan", data=IMAGES, target=LABELS)
        assert isinstance(trainer, PlanTrainer)
        job.report_blocking(job.model.diff(trainer.current_model).serialize())
        grid.answer("report", JSONResponse({"error": "twice"}, 409))
        with pytest.raises(GridResponseError, match="twice"):
            job.report_blocking(b"")
        job.request_blocking()
    assert len(grid.asked("authenticate")) == 1
    assert len(grid.asked("cycle-request")) == 2


def test_blocking_and_awaiting_may_be_mixed(grid: SmallGrid) -> None:
    with Syft(grid.ws_url, verbose=True) as syft:
        job = syft.new_job("m", "1.0")
        job.start_blocking()

        async def report() -> None:
            async with syft:
                await job.report(b"")

        asyncio.run(report())
        job.report_blocking(b"")
    assert grid.sockets == 2  # one for each event loop
    assert len(grid.asked("report")) == 2
