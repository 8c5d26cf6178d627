"""Events and `why`, as who observes a real grid sees them, over a socket."""

import asyncio
import csv
import io
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from fedplan import Events, ModelCentricFLClient, Why
from fedplan.client.owner import events as watched
from fedplan.errors import ConfigError, GridConnectionError, GridResponseError
from fedplan.grid import Settings, create_app
from fedplan.grid.service import events as service
from fedplan.wire.messages import CycleStatus, RefusedStatus, WhyReply, WorkerStatus
from tests.client.owner.test_waiting import host, train
from tests.grid.conftest import serving
from tests.grid.models import hosting


@pytest.fixture
def url(tmp_path) -> Iterator[str]:
    """A grid that nobody else uses."""
    with serving(Settings(data_dir=tmp_path, poll_seconds=0.05, retry_seconds=1.0)) as address:
        yield f"http://{address}"


@pytest.fixture
def owner(url) -> Iterator[ModelCentricFLClient]:
    with ModelCentricFLClient(url) as owner:
        yield owner


class TestEvents:
    def test_are_those_of_a_training(self, url, owner):
        host(owner, "m")
        train(url, "m")
        owner.wait("m", "1", checkpoint=2, timeout=20)
        found = owner.events("m", "1")
        assert isinstance(found, Events)
        assert [row.kind for row in found] == [
            *("hosted", "joined", "reported", "closed", "averaged", "opened"),
        ]
        assert repr(found) == "<Events: 6 events, the last 'opened'>"
        assert [row.kind for row in owner.events("m", last=2)] == ["averaged", "opened"]

    def test_are_rows_of_a_table(self, owner):
        host(owner, "m")
        found = owner.events()
        (line,) = csv.DictReader(io.StringIO(found.to_csv()))
        assert (line["kind"], line["model"], json.loads(line["details"])) == ("hosted", "m", {})

    def test_are_a_data_frame(self, owner):
        pytest.importorskip("pandas", reason="pandas is not installed")
        host(owner, "m")
        assert owner.events().to_pandas().loc["1", "cause"] == "its owner asked for it"

    def test_of_a_model_that_is_not_there_are_an_error(self, owner):
        with pytest.raises(GridResponseError, match="no model 'x'"):
            owner.events("x")

    @pytest.mark.parametrize("last", [0, 1001, -1, 1.5])
    def test_are_asked_for_in_whole_numbers(self, owner, last):
        with pytest.raises(ConfigError, match="last"):
            owner.events(last=last)

    def test_are_all_told_however_many_there_are(self, owner, monkeypatch):
        for number in range(5):
            host(owner, f"m{number}")
        monkeypatch.setattr(service, "EVENTS_AT_ONCE", 2)
        assert [row.model for row in owner.each_event()] == [f"m{number}" for number in range(5)]
        assert [row.model for row in owner.each_event("m3")] == ["m3"]
        assert [row.model for row in owner.each_event(after="4")] == ["m4"]


class TestFollowing:
    def test_tells_what_was_and_what_comes(self, owner):
        host(owner, "before")
        following = owner.each_event(follow=True)
        assert next(following).model == "before"
        later = threading.Timer(0.5, lambda: host(owner, "after"))
        later.start()
        assert next(following).model == "after"
        following.close()
        later.join()

    def test_goes_on_after_the_grid_was_away(self, tmp_path, monkeypatch):
        monkeypatch.setattr(watched, "_AGAIN_SECONDS", 0.05)
        settings = Settings(data_dir=tmp_path, poll_seconds=0.05)
        with serving(settings) as address:
            port = int(address.rpartition(":")[2])
            owner = ModelCentricFLClient(f"http://{address}")
            following = owner.each_event(follow=True)
            host(owner, "one")
            assert next(following).model == "one"
            told = []
            waiting = threading.Thread(target=lambda: told.append(next(following)))
            waiting.start()
        with serving(settings, port=port):
            host(owner, "two")
            waiting.join(20)
            assert [row.model for row in told] == ["two"]
            following.close()
            owner.close()

    def test_ends_with_an_error_that_does_not_pass(self, tmp_path):
        with (
            serving(Settings(data_dir=tmp_path, owner_token="secret")) as address,
            ModelCentricFLClient(f"http://{address}", "wrong") as stranger,
            pytest.raises(GridResponseError, match="not known to this grid"),
        ):
            next(stranger.each_event(follow=True))

    def test_gives_up_a_grid_that_stays_away(self, owner, url, monkeypatch):
        monkeypatch.setattr(watched, "_AGAIN_SECONDS", 0.0)
        monkeypatch.setattr(watched, "_MOST_FAILURES", 2)

        async def run() -> None:
            client = ModelCentricFLClient("http://127.0.0.1:9")
            with pytest.raises(GridConnectionError):
                async for _ in watched._streamed(client._grid, None, None, "0"):
                    pass
            await client.aclose()

        asyncio.run(run())

    async def test_works_in_one_process_too(self, tmp_path, monkeypatch):
        monkeypatch.setattr(watched, "_AGAIN_SECONDS", 0.02)
        app = create_app(Settings(data_dir=tmp_path))
        async with app.router.lifespan_context(app), ModelCentricFLClient("http://grid", app=app) as owner:
            following = owner.each_event_async(follow=True)
            first = asyncio.create_task(anext(following))
            await asyncio.sleep(0.05)
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://grid") as http:
                await http.post("/model-centric/host-training", json=hosting("here"))
            assert (await first).model == "here"
            await following.aclose()


NOW = datetime(2026, 3, 5, 12, tzinfo=UTC)  # the cases have names that are the same in each process


def ago(**time: float) -> datetime:
    return NOW - timedelta(**time)


def clock(moment: datetime) -> str:
    here = moment.astimezone()
    same = here.date() == NOW.astimezone().date()
    return f"{here:%H:%M:%S}" if same else f"{here:%Y-%m-%d %H:%M}"


def told(cycle: dict[str, Any] | None = None, **more: Any) -> Why:
    values = {"number": 7, "phase": "open", "accepted": 5, "reported": 5, "needed": 8, "limit": 8}
    return Why(
        WhyReply(
            at=NOW,
            name="m",
            version="1",
            phase="training",
            cycle=CycleStatus(opened_at=ago(hours=1), **(values | (cycle or {}))),
            **more,
        )
    )


class TestWhy:
    def test_says_which_reports_are_lacking_and_who_is_silent(self):
        lapses = NOW + timedelta(minutes=5)
        why = told(
            {"accepted": 7},
            num_cycles=10,
            lacking=3,
            silent=2,
            silent_since=ago(minutes=11),
            lapses_at=lapses,
        )
        assert str(why) == (
            "cycle 7 of 10 waits for 3 of 8 reports; 7 workers joined, 2 silent, the first for 11 min, "
            f"places lapse at {clock(lapses)}"
        )

    @pytest.mark.parametrize(
        ("cycle", "more", "words"),
        [
            (
                {},
                {"lacking": 3},
                "cycle 7 waits for 3 of 8 reports; 5 workers joined, and none of them is silent",
            ),
            (
                {"accepted": 0, "reported": 0},
                {"min_workers": 3, "asking": 1},
                "cycle 7 waits until 3 workers ask for a place, and 1 does; 0 workers joined",
            ),
            ({"reported": 2, "limit": None}, {}, "cycle 7 waits for 6 of 8 reports"),
            (
                {"closes_at": NOW + timedelta(minutes=1)},
                {"lacking": 3},
                f"its time is over, and starts again unless 8 reports are there, at {clock(ago(minutes=-1))}",
            ),
            (
                {"closes_at": NOW + timedelta(minutes=1), "reported": 0, "needed": 1},
                {"lacking": 3},
                "its time is over, and starts again unless 1 report is there,",
            ),
            (
                {"reported": 8, "limit": None, "closes_at": NOW},
                {},
                "has 8 reports, which is enough, and waits for its time to be over",
            ),
            ({"reported": 8, "limit": None}, {}, "waits for workers that still train"),
            ({"phase": "closing"}, {}, "cycle 7 takes no more reports: its 5 reports are being averaged"),
            ({"phase": "done"}, {}, "the training is finished: cycle 7 is done"),
            ({"task": "evaluation"}, {"lacking": 1}, "the evaluation, cycle 7, waits for 1 of 6 reports"),
        ],
    )
    def test_says_what_the_cycle_waits_for(self, cycle, more, words):
        assert words in str(told(cycle, **more))

    def test_says_what_else_is_wrong(self):
        why = told(
            lacking=3,
            fault="a plugin is missing\x1b",
            last_failure="NaN",
            refused=[RefusedStatus(cause="the cycle is full", times=12)],
        )
        assert why.sentences[1:] == [
            "it stands still: a plugin is missing\\x1b",
            "a cycle failed: NaN",
            "refused in this cycle: 12 × the cycle is full",
        ]

    @pytest.mark.parametrize(
        ("worker", "words"),
        [
            ({"state": "unknown"}, "worker w has had no place in the latest cycles of this model"),
            (
                {"state": "refused", "refused_at": ago(minutes=1), "refused_why": "the cycle is full"},
                f"worker w was refused at {clock(ago(minutes=1))}: the cycle is full",
            ),
            (
                {"state": "training", "cycle": 7, "joined_at": ago(minutes=2), "lapses_at": NOW},
                f"worker w joined cycle 7 at {clock(ago(minutes=2))} and has not reported yet; its place "
                f"lapses at {clock(NOW)}",
            ),
            (
                {"state": "reported", "cycle": 7, "joined_at": ago(minutes=2), "reported_at": ago(minutes=1)},
                f"and reported at {clock(ago(minutes=1))}",
            ),
            (
                {"state": "without a place", "cycle": 6, "joined_at": ago(minutes=2), "cause": "it declined"},
                "and has no place there any more: it declined",
            ),
        ],
    )
    def test_says_what_became_of_a_worker(self, worker, words):
        assert words in told(worker=WorkerStatus(name="w", **worker)).sentences[-1]

    def test_is_asked_of_a_grid(self, owner):
        host(owner, "m", max_diffs=3)
        why = owner.why("m", "1", worker="an id that nobody has")
        assert why.told.lacking == 3
        assert str(why).startswith("cycle 1 waits for 3 of 3 reports; 0 workers joined")
        assert why.told.worker is not None
        assert why.told.worker.state == "unknown"
        with pytest.raises(GridResponseError, match="no model"):
            owner.why("none", "1")

    def test_sends_no_workers_id(self, owner, monkeypatch):
        host(owner, "m")
        sent = []
        look = owner._grid.look

        async def note(endpoint, kind, **query):
            sent.append(query)
            return await look(endpoint, kind, **query)

        monkeypatch.setattr(owner._grid, "look", note)
        owner.why("m", "1", worker="secret id")
        assert "secret id" not in repr(sent)
