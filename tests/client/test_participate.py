import base64
import time
from collections import deque
from typing import Any

import numpy as np
import pytest
import torch
from starlette.responses import Response
from torch import nn

from fedplan.client import BatchEnd, Job, Participation, participate, participate_async, patience
from fedplan.client.training.step import TrainingStep
from fedplan.data import DataLoader, TensorDataset
from fedplan.errors import (
    ConfigError,
    CycleRejectedError,
    GridConnectionError,
    GridResponseError,
    InsecureUrlError,
)
from fedplan.plan import evaluation_plan
from fedplan.wire import State
from tests.client.small_grid import SmallGrid
from tests.client.training_cases import BATCH, make_data, make_module, make_trainer

IMAGES, LABELS = make_data()
REJECTED = {"status": "rejected"}
LATER = {"status": "rejected", "timeout": 0}


def take_part(grid: SmallGrid, **options: Any) -> Participation:
    return participate(grid.url, "m", "1.0", IMAGES, LABELS, verbose=True, **options)


def test_one_call_authenticates_trains_and_reports(grid: SmallGrid) -> None:
    result = take_part(grid, auth_token="t0ken")
    assert grid.asked("authenticate")[0]["auth_token"] == "t0ken"
    assert result.cycles == 1
    assert [type(loss) for loss in result.losses] == [float]
    assert len(result.metrics["accuracy"]) == 1
    assert len(grid.diffs) == 1


async def test_the_reported_diff_is_that_of_the_training(grid: SmallGrid) -> None:
    await participate_async(
        grid.ws_url, "m", "1.0", IMAGES, LABELS, verbose=True, epochs=2, steps_per_epoch=3
    )
    trainer = make_trainer(epochs=2, steps_per_epoch=3)
    await trainer.start()
    assert grid.diffs[0].serialize() == grid.model.diff(trainer.current_model).serialize()


def test_each_cycle_has_the_mean_loss_of_its_samples(grid: SmallGrid) -> None:
    batches: list[BatchEnd] = []
    result = take_part(grid, cycles=3, batch_size=8, events={"batch_end": batches.append})
    assert result.cycles == len(grid.diffs) == 3
    sizes = [len(part) for part in LABELS.split(8)]
    for cycle, loss in enumerate(result.losses):
        told = [batch.loss for batch in batches[cycle * len(sizes) : (cycle + 1) * len(sizes)]]
        assert loss == pytest.approx(np.average(told, weights=sizes))
    assert len(result.losses) == len(result.metrics["accuracy"]) == 3


def test_nobody_waits_for_the_numbers_of_each_batch_without_asking(
    grid: SmallGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    read = TrainingStep.loss.fget
    monkeypatch.setattr(TrainingStep, "loss", property(lambda step: asked.append(step) or read(step)))
    take_part(grid, progress=False)
    assert asked == []
    take_part(grid, progress=True)
    assert len(asked) == 7


def test_counts_may_be_numpys(grid: SmallGrid) -> None:
    counts = {"cycles": np.int64(2), "epochs": np.uint8(2), "steps_per_epoch": torch.tensor(3)}
    result = take_part(grid, **counts, batch_size=np.int32(5))
    assert (result.cycles, len(result.losses)) == (2, 2)


@pytest.mark.parametrize("wait", ["soon", -1, float("nan"), None, [1]])
def test_what_is_no_time_to_wait_is_refused_before_the_grid_is_asked(grid: SmallGrid, wait: Any) -> None:
    with pytest.raises(ConfigError, match="wait must be a number of seconds"):
        take_part(grid, wait=wait)
    assert grid.requests == []


@pytest.mark.parametrize("name", ["cycles", "epochs", "batch_size", "steps_per_epoch"])
@pytest.mark.parametrize("count", [0, -1, 2.0, True, "2", np.True_])
def test_what_is_no_count_is_refused_before_the_grid_is_asked(grid: SmallGrid, name: str, count: Any) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be a positive integer"):
        take_part(grid, **{name: count})
    assert grid.requests == []


@pytest.mark.parametrize("seed", [-1, 1 << 128, "7", 7.5])
def test_what_is_no_seed_is_refused_before_the_grid_is_asked(grid: SmallGrid, seed: Any) -> None:
    with pytest.raises(ConfigError, match="seed"):
        take_part(grid, seed=seed)
    assert grid.requests == []


def test_a_loader_goes_on_from_cycle_to_cycle(grid: SmallGrid) -> None:
    loader = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=13)
    result = participate(grid.url, "m", "1.0", loader, verbose=True, cycles=2)
    assert result.cycles == 2
    assert loader.epoch == 1


def test_a_rejection_is_raised_unless_told_to_wait(grid: SmallGrid) -> None:
    grid.answer("cycle-request", LATER)
    with pytest.raises(CycleRejectedError, match="ask again in 0 s"):
        take_part(grid)


def test_a_worker_told_to_wait_asks_again(grid: SmallGrid) -> None:
    grid.answer("cycle-request", LATER, {"status": "rejected", "timeout": "0:00:00.7"})
    began = time.monotonic()
    assert take_part(grid, wait=True).cycles == 1
    assert time.monotonic() - began >= 1.2  # half a second at least, then 0.7 s
    assert len(grid.asked("cycle-request")) == 3


def test_a_worker_that_waits_for_some_seconds_gives_up_then(grid: SmallGrid) -> None:
    grid.answer("cycle-request", *[{"status": "rejected", "timeout": 60}] * 9)
    began = time.monotonic()
    with pytest.raises(CycleRejectedError):
        take_part(grid, wait=0.3)
    assert 0.3 <= time.monotonic() - began < 5
    assert len(grid.asked("cycle-request")) == 2  # once more when the patience ends


def accepted_once(grid: SmallGrid, *later: Any) -> None:
    """The first request is accepted, and the next ones are answered so."""
    grid.answer("cycle-request", lambda data: grid.usual("cycle-request", data), *later)


def test_between_its_own_cycles_a_worker_waits_without_being_told(grid: SmallGrid) -> None:
    accepted_once(grid, LATER, LATER, {"status": "rejected", "timeout": 0.7})
    assert take_part(grid, cycles=2).cycles == 2
    assert len(grid.asked("cycle-request")) == 5


def test_it_does_not_wait_for_its_next_cycle_for_ever(
    grid: SmallGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "_CLOSING_SECONDS", 0.2)
    accepted_once(grid, *[{"status": "rejected", "timeout": 0.6}] * 9)
    began = time.monotonic()
    assert take_part(grid, cycles=2).cycles == 1
    assert 0.8 <= time.monotonic() - began < 5
    assert len(grid.asked("cycle-request")) == 4  # after 0.6 s, and when 0.2 s more are over


def test_each_cycle_is_waited_for_anew(grid: SmallGrid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_CLOSING_SECONDS", 0.2)
    for _ in range(3):
        accepted_once(grid, {"status": "rejected", "timeout": 0.6})
    assert take_part(grid, cycles=4).cycles == 4


def test_a_model_that_is_finished_is_not_waited_for(grid: SmallGrid) -> None:
    grid.answer("cycle-request", lambda data: grid.usual("cycle-request", data) | {"cycle": 1}, REJECTED)
    assert take_part(grid, cycles=2).cycles == 1
    assert len(grid.asked("cycle-request")) == 2


def test_a_grid_that_does_not_number_its_cycles_may_be_between_two_of_them(grid: SmallGrid) -> None:
    accepted_once(grid, REJECTED)
    assert take_part(grid, cycles=2).cycles == 2
    accepted_once(grid, REJECTED, REJECTED)
    assert take_part(grid, cycles=2).cycles == 1


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "AWAY_SECONDS", (0.01, 0.01, 0.01))


AWAY = Response(status_code=502)


@pytest.mark.usefixtures("short_pauses")
class TestAGridThatIsAway:
    @pytest.mark.parametrize("scheme", ["http", "ws"])
    def test_is_asked_again_by_a_worker_that_waits(self, grid: SmallGrid, scheme: str) -> None:
        grid.answer("cycle-request", LATER, *[AWAY] * 3, LATER, *[AWAY] * 3)
        url = grid.url.replace("http", scheme)
        assert participate(url, "m", "1.0", IMAGES, LABELS, wait=True, verbose=True).cycles == 1
        assert len(grid.asked("authenticate")) == 1  # it stays one worker
        assert grid.next["cycle-request"] == deque()

    def test_is_given_up_when_it_stays_away(self, grid: SmallGrid) -> None:
        grid.answer("cycle-request", LATER, *[AWAY] * 9)
        with pytest.raises(GridResponseError, match="502"):
            take_part(grid, wait=True)
        assert len(grid.asked("cycle-request")) == 1 + 4

    def test_is_not_waited_for_if_it_never_answered(self, grid: SmallGrid) -> None:
        grid.answer("cycle-request", AWAY)
        with pytest.raises(GridResponseError, match="502"):
            take_part(grid, wait=True)

    def test_is_not_waited_for_longer_than_the_caller_likes(self, grid: SmallGrid) -> None:
        grid.answer("cycle-request", LATER, *[AWAY] * 9)
        with pytest.raises(GridResponseError, match="502"):
            take_part(grid, wait=0.505)
        assert len(grid.asked("cycle-request")) <= 3

    def test_gets_a_report_that_could_not_be_sent_when_it_is_back(
        self, grid: SmallGrid, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.fail_reports(monkeypatch, GridConnectionError("away", sent=False), times=2)
        result = take_part(grid, wait=True)
        assert (result.cycles, result.refused, len(grid.diffs)) == (1, 0, 1)
        assert len(grid.asked("cycle-request")) == 1

    def test_gets_a_report_that_it_wanted_later_when_it_takes_it(
        self, grid: SmallGrid, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        away = GridResponseError("no database", status=503, retry_after=5.0)
        self.fail_reports(monkeypatch, away, times=2)
        result = take_part(grid, wait=True)
        assert (result.cycles, result.refused, len(grid.diffs)) == (1, 0, 1)
        assert len(grid.asked("cycle-request")) == 1

    def test_does_not_get_a_report_twice_that_may_have_arrived(
        self, grid: SmallGrid, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.fail_reports(monkeypatch, GridConnectionError("broke"), times=1)
        result = take_part(grid, wait=True)
        assert (result.cycles, result.refused, len(grid.diffs)) == (1, 1, 1)
        assert len(grid.asked("cycle-request")) == 2

    @staticmethod
    def fail_reports(
        monkeypatch: pytest.MonkeyPatch, error: GridConnectionError | GridResponseError, times: int
    ) -> None:
        report, left = Job.report, [error] * times

        async def fail(self: Job, diff: bytes) -> None:
            if left:
                raise left.pop()
            await report(self, diff)

        monkeypatch.setattr(Job, "report", fail)


def test_a_finished_model_is_not_waited_for(grid: SmallGrid) -> None:
    grid.answer("cycle-request", REJECTED)
    with pytest.raises(CycleRejectedError, match="no more workers"):
        take_part(grid, wait=True)


def test_a_model_that_finishes_early_gives_the_cycles_that_were_done(grid: SmallGrid) -> None:
    for _ in range(2):
        grid.answer("cycle-request", lambda data: grid.usual("cycle-request", data))
    grid.answer("cycle-request", REJECTED, REJECTED)
    assert take_part(grid, cycles=None, wait=True).cycles == 2


def test_a_refused_report_is_raised(grid: SmallGrid) -> None:
    grid.answer("report", {"error": "the diff holds NaN"})
    with pytest.raises(GridResponseError, match="the diff holds NaN"):
        take_part(grid)


def test_a_worker_that_waits_goes_on_after_a_late_report(grid: SmallGrid) -> None:
    for late in (True, True, False, True, False):
        grid.answer("report", {"error": "too late"} if late else {"status": "success"})
    result = take_part(grid, wait=True, cycles=2)
    assert (result.cycles, result.refused) == (2, 3)
    assert len(result.losses) == 5


def test_a_late_evaluation_does_not_count_as_a_refused_report(grid: SmallGrid) -> None:
    example = make_data(BATCH)
    grid.plans["evaluation_plan"] = evaluation_plan(
        make_module(), nn.functional.cross_entropy, example=example
    )

    def only_measures(data: dict[str, Any]) -> Any:
        return {**grid.usual("cycle-request", data), "plans": {"evaluation_plan": 11}, "task": "evaluation"}

    grid.answer("cycle-request", only_measures, only_measures, only_measures)
    grid.answer("report", *[{"error": "too late"}] * 5)
    result = take_part(grid, wait=True)
    assert (result.cycles, result.evaluations, result.refused) == (1, 0, 5)


def test_three_refused_reports_in_succession_are_no_accident(grid: SmallGrid) -> None:
    grid.answer("report", *[{"error": "the diff holds NaN"}] * 4)
    with pytest.raises(GridResponseError, match="the diff holds NaN"):
        take_part(grid, wait=True, cycles=2)
    assert len(grid.asked("report")) == 3


def test_a_plain_url_of_another_machine_is_refused_unless_it_is_allowed() -> None:
    with pytest.raises(InsecureUrlError):
        participate("ws://grid.example", "m", "1.0", IMAGES, LABELS)
    with pytest.raises(InsecureUrlError):
        participate("ws://grid.example", "m", "1.0", IMAGES, LABELS, log=True)


def test_handlers_hear_of_the_training(grid: SmallGrid) -> None:
    events: list[BatchEnd] = []
    take_part(grid, events={"batch_end": events.append})
    assert [event.batch for event in events] == list(range(7))


def test_a_progress_bar_is_shown_when_asked_for(grid: SmallGrid, capsys: pytest.CaptureFixture[str]) -> None:
    grid.answer("cycle-request", LATER)
    take_part(grid, wait=True, progress=True)
    shown = capsys.readouterr().err
    assert "asking again in" in shown
    assert "cycle 1" in shown
    assert "7/7" in shown
    assert "loss" in shown


def test_no_progress_bar_is_shown_without_a_terminal(
    grid: SmallGrid, capsys: pytest.CaptureFixture[str]
) -> None:
    take_part(grid)
    assert "cycle 1" not in capsys.readouterr().err


async def test_an_app_in_this_process_can_be_trained_with(grid: SmallGrid) -> None:
    result = await participate_async("http://grid", "m", "1.0", IMAGES, LABELS, app=grid.app)
    assert result.cycles == 1
    assert torch.isfinite(grid.diffs[0].params[0]).all()


def test_reports_are_as_the_model_prefers(grid: SmallGrid) -> None:
    grid.client_config["report_formats"] = ["int8", "topk"]
    take_part(grid, steps_per_epoch=2)
    take_part(grid, steps_per_epoch=2, report_format="float32")
    small, whole = (State.parse(base64.b64decode(data["diff"])) for data in grid.asked("report"))
    assert {tensor.dtype for tensor in small.tensors} == {"qint8"}
    assert {tensor.dtype for tensor in whole.tensors} == {"float32"}


def test_a_form_that_the_model_does_not_take_is_refused_before_any_training(grid: SmallGrid) -> None:
    batches: list[BatchEnd] = []
    with pytest.raises(ConfigError, match="does not take diffs as topk"):
        take_part(grid, report_format="topk", events={"batch_end": batches.append})
    assert batches == []
