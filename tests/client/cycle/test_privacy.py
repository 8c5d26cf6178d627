"""What a worker sees of a cycle's privacy, and what it keeps to by itself."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import numpy as np
import pytest
import torch

import fedplan
from fedplan.client import JobPrivacy, ModelCentricFLClient, Syft
from fedplan.client.transport.api import GridApi
from fedplan.errors import AggregationError, CycleDeclinedError, WireError
from fedplan.federation.privacy import epsilon_after
from fedplan.grid import Settings, create_app
from fedplan.wire import State, WireTensor
from tests.client.small_grid import serve
from tests.simulation.cases import CONFIG, clients, model_of, plans_of

SECRET = "a secret of at least thirty-two bytes"
PRIVACY = {"clip": 0.25, "noise_multiplier": 2.0, "cohort": 2, "delta": 1e-5, "max_epsilon": 9.0}
TOLD = {**PRIVACY, "mechanism": "central", "clipping": "fixed", "epsilon": 2.0}


def token(subject: str) -> str:
    return jwt.encode({"sub": subject, "exp": 4e9}, SECRET, algorithm="HS256")


def diff(*arrays: Any, places: tuple[int, ...] | None = None) -> bytes:
    return State.of([WireTensor(np.array(a, np.float32), "float32") for a in arrays], places).serialize()


def norm_of(data: bytes) -> float:
    tensors = State.parse(data).tensors
    return float(np.sqrt(sum(float(np.sum(np.square(t.array, dtype=np.float64))) for t in tensors)))


def privacy(**changes: Any) -> JobPrivacy:
    found = JobPrivacy.of({"privacy": TOLD | changes})
    assert found is not None
    return found


class TestADiff:
    @pytest.mark.parametrize("clipping", ["fixed", "per_layer"])
    @pytest.mark.parametrize("scale", [1.0, 1e20, 3e38])
    def test_of_a_large_norm_is_scaled_down_to_the_clip(self, clipping: str, scale: float) -> None:
        sent = privacy(clipping=clipping).clipped(diff(np.full((3, 4), scale), np.full(5, -scale)), None)
        assert 0.2499 < norm_of(sent) <= 0.25

    def test_within_the_clip_is_sent_as_it_is(self) -> None:
        small = diff([0.1, -0.1], [0.01])
        assert privacy().clipped(small, None) == small

    def test_of_some_tensors_keeps_their_places(self) -> None:
        sent = privacy().clipped(diff([3.0], [4.0], places=(1, 4)), (1, 4))
        assert State.parse(sent).places == (1, 4)
        np.testing.assert_allclose([t.array[0] for t in State.parse(sent).tensors], [0.15, 0.2], rtol=1e-5)

    def test_that_is_whole_is_clipped_where_the_model_changes(self) -> None:
        sent = privacy(clipping="per_layer").clipped(diff([0.0], [3.0], [0.0]), (1,))
        assert norm_of(sent) == pytest.approx(0.25, rel=1e-5)

    def test_with_a_value_that_is_not_finite_is_an_error(self) -> None:
        with pytest.raises(AggregationError, match="not finite"):
            privacy().clipped(diff([np.nan]), None)


class TestWhatAGridTells:
    @pytest.mark.parametrize("config", [{}, {"privacy": 3}, {"privacy": {"mine": 1}}])
    def test_is_nothing_where_it_names_no_mechanism(self, config: dict[str, Any]) -> None:
        assert JobPrivacy.of(config) is None

    @pytest.mark.parametrize("wrong", [{"clip": 0}, {"clip": None}, {"clipping": "loose"}, {"delta": 2}])
    def test_is_an_error_where_it_cannot_be_read(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(WireError, match="what the grid tells of the privacy"):
            privacy(**wrong)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("grid")
    with serve(create_app(Settings(data_dir=folder, poll_seconds=0.05, retry_seconds=0.2))) as url:
        yield url


def host(url: str, version: str, **server: Any) -> None:
    config = {"authentication": {"secret": SECRET}, "max_diffs": 2, "privacy": PRIVACY, "num_cycles": 2}
    with ModelCentricFLClient(url, allow_plain_text=True) as grid:
        client = CONFIG | {"version": version}
        grid.host_federated_training(model_of(), plans_of(), client, config | server, variants=[])


class TestAJob:
    async def test_knows_what_protects_it_before_it_trains(self, url: str) -> None:
        host(url, "told")
        async with Syft(url=url, allow_plain_text=True) as syft:
            job = syft.new_job("m", "told", auth_token=token("ann"))
            assert job.privacy is None
            await job.start()
            found = job.privacy
            assert found is not None
            assert (found.clip, found.clipping) == (0.25, "fixed")
            assert found.told.mechanism == "central"
            assert (found.told.noise_multiplier, found.told.cohort, found.told.delta) == (2.0, 2, 1e-5)
            assert found.told.epsilon == pytest.approx(epsilon_after(1, 2.0, 1e-5))
            assert found.told.max_epsilon == 9.0

    async def test_sends_no_more_than_the_clip(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        host(url, "clipped")
        sent = list[bytes]()
        report = GridApi.report

        async def watched(self: GridApi, worker_id: str, key: str, data: bytes, **more: Any) -> Any:
            sent.append(data)
            return await report(self, worker_id, key, data, **more)

        monkeypatch.setattr(GridApi, "report", watched)
        async with Syft(url=url, allow_plain_text=True) as syft:
            job = syft.new_job("m", "clipped", auth_token=token("ann"))
            await job.start()
            trained = fedplan.SyftModel([param + 100 for param in job.model.params])
            await job.report(await job.model.create_serialized_diff_from_model(trained))
        assert norm_of(sent[0]) == pytest.approx(0.25, rel=1e-4)

    async def test_is_accepted_by_what_its_privacy_says(self, url: str) -> None:
        host(url, "accepted")

        def accept(job: fedplan.Job) -> bool:
            return job.privacy is not None and job.privacy.told.epsilon <= 2.5

        first, second = clients(2)
        both = [
            fedplan.participate_async(
                url, "m", "accepted", *data, auth_token=token(who), accept=accept, allow_plain_text=True
            )
            for who, data in (("ann", first), ("bob", second))
        ]
        await asyncio.gather(*both)
        with pytest.raises(CycleDeclinedError):  # the second cycle would make it 3.2
            await fedplan.participate_async(
                url,
                "m",
                "accepted",
                *first,
                auth_token=token("ann"),
                accept=accept,
                wait=20.0,
                allow_plain_text=True,
            )
        with ModelCentricFLClient(url, allow_plain_text=True) as grid:
            (row,) = grid.history("m", "accepted")
            assert row.privacy is not None
            assert row.privacy.participants == 2
            assert row.samples == 0
            assert grid.history("m", "accepted").to_dicts()[0]["epsilon"] == row.privacy.epsilon
            assert torch.isfinite(grid.retrieve_model("m", "accepted").params[0]).all()
