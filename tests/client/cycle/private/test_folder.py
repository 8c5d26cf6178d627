"""The folder in which a worker keeps its private tensors: kills, refusals, damage, and whose it is."""

import asyncio
import json
import os
import pathlib
import signal
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
import torch
from starlette.responses import JSONResponse

from fedplan.client import (
    ModelCentricFLClient,
    Syft,
)
from fedplan.client.cycle.private import PrivateState, Whose, subject_of
from fedplan.errors import GridResponseError, PrivateStateError
from fedplan.grid import Settings, create_app
from fedplan.plan import Plan, training_plan
from tests.client.cycle.private.personal import CONFIG, PRIVATE, Personal, by_hand, data_of, trained
from tests.client.cycle.private.personal_grid import (
    Gate,
    assert_kept,
    checkpoint,
    host,
    only_file,
    train,
)
from tests.processes import Process


@pytest.mark.parametrize("suffix", ["", ".next"])
def test_what_cannot_be_read_is_not_open_for_who_tries_again(tmp_path: pathlib.Path, suffix: str) -> None:
    whose = Whose("http://grid", "m", "1", None)
    state = PrivateState(whose, tmp_path)
    fault = tmp_path / f"{whose.file_name}{suffix}"
    fault.mkdir()  # it is there, and cannot be read
    for _ in range(2):
        with pytest.raises(PrivateStateError, match="cannot be read"):
            state.open()
    fault.rmdir()
    other = PrivateState(whose, tmp_path)
    other.open()  # the folder is free
    other.close()
    state.open()


@pytest.mark.parametrize("taken", [False, True], ids=["before", "after"])
async def test_a_worker_that_is_killed_around_its_report_goes_on_from_the_cycle_before(
    tmp_path: pathlib.Path,
    caplog: pytest.LogCaptureFixture,
    gate: Gate,
    plan: Plan,
    taken: bool,
) -> None:
    """Nobody knows then whether the grid has it; what is kept is of reports that it is known to have."""
    url = gate.url
    await host(url, plan)
    folder = tmp_path / "mine"
    worker: list[Process] = []

    def kill() -> Any:
        os.kill(worker[0].pid, signal.SIGKILL)
        worker[0].wait()
        return None if taken else JSONResponse({"error": "nobody listens"}, 503)

    await train(url, state=folder)
    if taken:
        gate.after_report = kill
    else:
        gate.before_report = kill
    with Process("-m", "tests.client.cycle.private.personal", url, folder, "1") as running:
        worker.append(running)
        assert await asyncio.to_thread(running.wait, 60) == -signal.SIGKILL
    gate.before_report = gate.after_report = lambda: None
    if taken:
        await checkpoint(url, 3)  # the grid has taken it
    _, own = by_hand(plan, 1, 1)
    assert_kept(folder, own[0])
    assert len(list(folder.glob("*.next"))) == 1
    await train(url, state=folder)
    assert "its report was on the way" in caplog.text
    assert not list(folder.glob("*.next"))
    shared = await checkpoint(url, 3 if taken else 2)
    start = [own[0][place] if place in PRIVATE else tensor for place, tensor in enumerate(shared)]
    assert_kept(folder, trained(plan, 0, start))


async def test_a_report_that_is_refused_leaves_the_state_as_it_was(
    tmp_path: pathlib.Path, gate: Gate, plan: Plan
) -> None:
    url = gate.url
    await host(url, plan)
    await train(url, state=tmp_path / "mine")
    await checkpoint(url, 2)  # the next cycle takes workers
    before = only_file(tmp_path / "mine").read_bytes()
    gate.before_report = lambda: JSONResponse({"error": "the report comes too late"}, 409)
    with pytest.raises(GridResponseError, match="too late"):
        await train(url, wait=False, state=tmp_path / "mine")
    assert only_file(tmp_path / "mine").read_bytes() == before
    assert not list((tmp_path / "mine").glob("*.next"))


class TestAStateThatCannotBeUsed:
    @pytest.fixture
    async def folder(self, tmp_path: pathlib.Path, url: str, plan: Plan) -> pathlib.Path:
        await host(url, plan)
        await train(url, state=tmp_path / "mine")
        await checkpoint(url, 2)
        return tmp_path / "mine"

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda text: text[: len(text) // 2], "damaged"),
            (lambda text: text.replace('"stateBase64": "', '"stateBase64": "AAAA'), "its sum differs"),
            (lambda text: "[]", "damaged"),
            (lambda text: "\x00\xff", "damaged"),
            (lambda text: text.replace('"format": 1', '"format": 2'), "another version of fedplan"),
            (
                lambda text: text.replace('"version": "1.0"', '"version": "2.0"'),
                "another worker's or model's",
            ),
        ],
    )
    async def test_is_an_error_before_the_grid_is_asked_for_a_place(
        self, folder: pathlib.Path, url: str, change: Callable[[str], str], message: str
    ) -> None:
        path = only_file(folder)
        path.write_text(change(path.read_text()))
        damaged = path.read_bytes()
        with pytest.raises(PrivateStateError, match=message) as error:
            await train(url, state=folder)
        assert str(path) in str(error.value)
        assert "move it away to begin with the hosted values" in str(error.value)
        assert path.read_bytes() == damaged
        async with ModelCentricFLClient(url) as owner:
            (model,) = (await owner.status_async("personal")).models
        assert model.cycle.accepted == 0

    async def test_is_one_of_other_shapes(self, folder: pathlib.Path, plan: Plan) -> None:
        path = only_file(folder)
        content = path.read_bytes()
        other = Personal()
        other.norm = torch.nn.BatchNorm1d(5, affine=False)
        settings = Settings(data_dir=folder / "another grid")
        owner_url = json.loads(content)["grid"]
        app = create_app(settings)
        async with app.router.lifespan_context(app):
            async with ModelCentricFLClient(owner_url, app=app) as owner:
                await owner.host_federated_training_async(
                    other,
                    {
                        "training_plan": training_plan(
                            other, torch.nn.functional.cross_entropy, example=data_of(0), private=["head.*"]
                        )
                    },
                    CONFIG,
                    {"max_diffs": 1},
                    variants=[],
                )
            with pytest.raises(
                PrivateStateError, match="is of another model: it has tensor 2 of float32"
            ) as e:
                await train(owner_url, app=app, state=folder)
        assert str(path) in str(e.value)
        assert path.read_bytes() == content

    async def test_is_in_use(self, folder: pathlib.Path, url: str) -> None:
        async with Syft(url, verbose=True) as syft:
            job = syft.new_job("personal", "1.0", state=folder)
            await job.start()
            with pytest.raises(PrivateStateError, match="another worker is using the private state in"):
                await train(url, state=folder)
            job.close()
        await train(url, state=folder)

    async def test_cannot_be_written(self, folder: pathlib.Path, url: str) -> None:
        """Then nothing is reported: the next cycle would begin from a state that is not the report's."""
        blocking = pathlib.Path(f"{only_file(folder)}.next")

        def block() -> None:
            blocking.mkdir(exist_ok=True)

        with pytest.raises(PrivateStateError, match="so nothing was reported"):
            await train(url, state=folder, events={"end": block})
        async with ModelCentricFLClient(url) as owner:
            (model,) = (await owner.status_async("personal")).models
        assert (model.cycle.number, model.cycle.reported) == (2, 0)

    async def test_is_a_file_where_a_folder_is_needed(self, folder: pathlib.Path, url: str) -> None:
        with pytest.raises(PrivateStateError, match="cannot be read"):
            await train(url, state=only_file(folder))


async def test_each_subject_of_a_token_has_a_state_of_its_own(
    tmp_path: pathlib.Path, url: str, plan: Plan
) -> None:
    """Worker ids are others at each start, and tokens expire; the subject stays."""
    secret = "a secret of at least thirty-two bytes"
    await host(url, plan, authentication={"secret": secret})

    def token(subject: str, **claims: Any) -> str:
        return jwt.encode({"sub": subject, "exp": time.time() + 600, **claims}, secret, algorithm="HS256")

    folder = tmp_path / "shared"
    await train(url, state=folder, auth_token=token("ada"))
    await train(url, state=folder, auth_token=token("ada", iat=1))
    await train(url, 1, state=folder, auth_token=token("bob"))
    identities = {path: json.loads(path.read_text())["identity"] for path in folder.glob("*.json")}
    assert sorted(identities.values()) == ["ada", "bob"]


@pytest.mark.parametrize("token", [None, "", "opaque", "a.b.c", "e30.W10.x", jwt.encode({}, "k" * 32)])
def test_a_token_without_a_subject_names_nobody(token: str | None) -> None:
    assert subject_of(token) is None
