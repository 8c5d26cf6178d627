"""Events over HTTP, over real sockets: as JSON, and as server-sent events."""

import asyncio
import contextlib
import json
import time

import httpx
import pytest

from fedplan.grid import Settings
from fedplan.grid.identity.access import make_token, revoke_token
from fedplan.grid.records import Scope
from fedplan.grid.store import Store
from fedplan.grid.web import events
from fedplan.wire.messages import EVENTS_AT_ONCE, worker_name
from tests.cli.conftest import fedplan_process
from tests.grid.conftest import serving
from tests.grid.models import hosting
from tests.grid.peers import Peer
from tests.grid.postgresql import cluster, needs_postgresql

PATH = "/model-centric/events"


@contextlib.asynccontextmanager
async def grid(folder, **settings):
    """A peer of a real server."""
    with serving(Settings(data_dir=folder, poll_seconds=0.05, **settings)) as address:
        async with httpx.AsyncClient(base_url=f"http://{address}", timeout=20) as http:
            yield Peer(http)


@pytest.fixture
async def own(tmp_path):
    """A peer of a grid that nobody else uses."""
    async with grid(tmp_path) as peer:
        yield peer


class Stream:
    """A listener to server-sent events, as a browser reads them."""

    def __init__(self, response):
        self.response = response
        self.lines = response.aiter_lines()
        self.last_id = ""

    async def next(self, seconds=5):
        """The next event: its name and data; None for one that only moves the id."""
        name, data = "message", None
        async with asyncio.timeout(seconds):
            async for line in self.lines:
                field, _, value = line.partition(": ")
                if not line:
                    return None if data is None else (name, data)
                if field == "id":
                    self.last_id = value
                elif field == "event":
                    name = value
                elif field == "data":
                    data = json.loads(value)
        raise EOFError

    async def told(self):
        """The next event that has data."""
        while (found := await self.next()) is None:
            pass
        return found[1]


@contextlib.asynccontextmanager
async def stream(peer, last_id=None, **query):
    headers = {"accept": "text/event-stream"} | ({} if last_id is None else {"last-event-id": last_id})
    async with peer.http.stream("GET", PATH, params=query, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Stream(response)


async def listed(peer, **query):
    reply = await peer.http.get(PATH, params=query)
    assert reply.status_code == 200, reply.text
    return reply.json()


class TestTheList:
    async def test_tells_each_event_with_its_cause_and_actor(self, own):
        await own.host()
        worker = await own.join()
        told = await listed(own)
        hosted, joined = told["events"]
        assert hosted == {
            "id": "1",
            "at": hosted["at"],
            "kind": "hosted",
            "model": "m",
            "version": "1.0",
            "cycle": 1,
            "actor": "anybody",
            "address": "127.0.0.1",
            "cause": "its owner asked for it",
            "request_id": hosted["request_id"],
            "details": {},
        }
        assert (joined["actor"], joined["actor_id"]) == ("worker", worker_name(worker.worker_id))
        assert told["next"] == joined["id"]

    async def test_goes_on_behind_a_position(self, own):
        for number in range(5):
            await own.host(f"m{number}")
        whole = (await listed(own, after="0"))["events"]
        assert len(whole) == 5
        rest = await listed(own, after=whole[2]["id"])
        assert (rest["events"], rest["more"]) == (whole[3:], False)
        assert (await listed(own, after=rest["next"]))["events"] == []
        assert (await listed(own, last=2))["events"] == whole[3:]

    async def test_is_of_a_model(self, own):
        for name, version in (("a", "1"), ("a", "2"), ("b", "1")):
            await own.host(name, version)
        assert [e["version"] for e in (await listed(own, name="a"))["events"]] == ["1", "2"]
        one = await listed(own, name="a", version="1")
        assert len(one["events"]) == 1
        assert one["next"] == "3"  # what follows need not be looked at again
        missing = await own.http.get(PATH, params={"name": "c"})
        assert missing.status_code == 404

    @pytest.mark.parametrize(
        "query", [{"after": "x"}, {"last": "0"}, {"last": str(EVENTS_AT_ONCE + 1)}, {"after": "1" * 60}]
    )
    async def test_refuses_what_it_cannot_read(self, own, query):
        assert (await own.http.get(PATH, params=query)).status_code == 400

    async def test_says_where_events_are_no_longer_kept(self, own):
        await own.host("a")
        await own.host("b")
        assert "lost" not in await listed(own, after="1")
        assert "lost" not in await listed(own, after="0")


class TestAStream:
    async def test_tells_what_happens_from_now_on(self, own):
        await own.host("before")
        async with stream(own) as listener:
            assert await listener.next() is None
            assert listener.last_id == "1"
            await own.host("after")
            told = await listener.told()
            assert (told["kind"], told["model"], told["id"]) == ("hosted", "after", listener.last_id)

    async def test_goes_on_where_it_was_cut_off(self, own):
        async with stream(own) as listener:
            await own.host("a")
            assert (await listener.told())["model"] == "a"
        await own.host("b")
        await own.host("c")
        async with stream(own, listener.last_id) as again:
            assert [(await again.told())["model"] for _ in range(2)] == ["b", "c"]
        async with stream(own, after="0") as whole:
            assert [(await whole.told())["model"] for _ in range(3)] == ["a", "b", "c"]

    async def test_tells_more_than_it_reads_at_once_in_their_order(self, own):
        await own.host(server={"max_workers": 1000})
        for _ in range(30):
            await own.join()
        async with stream(own, after="0") as listener:
            ids = [int((await listener.told())["id"]) for _ in range(31)]
        assert ids == sorted(ids)

    async def test_of_one_model_tells_no_other(self, own):
        await own.host("a")
        async with stream(own, name="a") as listener:
            await own.host("b")
            await own.join("a")
            assert (await listener.told())["kind"] == "joined"
        missing = await own.http.get(PATH, params={"name": "c"}, headers={"accept": events.STREAM})
        assert missing.status_code == 404

    async def test_says_that_it_is_alive(self, own, monkeypatch):
        monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.1)
        async with stream(own) as listener:
            assert [await listener.next(1) for _ in range(3)] == [None, None, None]

    async def test_refuses_an_id_that_is_none(self, own):
        for headers in ({"last-event-id": "x"}, {"last-event-id": "1-2-3"}):
            answer = await own.http.get(PATH, headers={"accept": "text/event-stream"} | headers)
            assert answer.status_code == 400
            assert "Last-Event-ID" in answer.json()["error"]


async def test_only_so_many_may_follow_at_once(tmp_path):
    async with grid(tmp_path, max_event_streams=2) as peer:
        async with stream(peer) as one, stream(peer) as two:
            await one.next()
            await two.next()
            refused = await peer.http.get(PATH, headers={"accept": "text/event-stream"})
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            assert (await peer.http.get(PATH)).status_code == 200
        async with asyncio.timeout(5):
            while True:  # those who went make room
                async with peer.http.stream("GET", PATH, headers={"accept": "text/event-stream"}) as answer:
                    if answer.status_code == 200:
                        return
                await asyncio.sleep(0.02)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=needs_postgresql)])
def shared(request, tmp_path):
    """Settings of replicas that share a database and blobs."""
    if request.param == "sqlite":
        yield {}
        return
    with cluster() as postgresql:
        yield {"database_url": postgresql.url}


async def test_a_stream_tells_what_another_replica_writes(tmp_path, shared):
    async with grid(tmp_path, **shared) as one, grid(tmp_path, **shared) as two, stream(one) as listener:
        await listener.next()
        await two.host("elsewhere")
        assert (await listener.told())["model"] == "elsewhere"
        await one.host("here")
        position = listener.last_id
        async with stream(two, position) as other:
            assert (await other.told())["model"] == "here"


async def test_events_are_for_those_who_may_observe(open_grid):
    async with open_grid() as peer:
        store = peer.app.state.grid.store
        tokens = {scope: await make_token(store, scope, [scope], 60) for scope in Scope}
        assert (await peer.http.get(PATH)).status_code == 401
        allowed = {
            scope: (await peer.http.get(PATH, headers={"authorization": f"Bearer {token}"})).status_code
            for scope, token in tokens.items()
        }
        assert allowed == {Scope.HOST: 403, Scope.READ: 403, Scope.OBSERVE: 200, Scope.ADMIN: 200}


async def test_a_stream_ends_before_it_tells_anything_to_a_token_that_was_revoked(tmp_path):
    async with grid(tmp_path, owner_token="the owner's") as peer:
        store = await Store.open(Settings(data_dir=tmp_path).database, None)
        token = await make_token(store, "page", [Scope.OBSERVE], 60)
        peer.http.headers["authorization"] = f"Bearer {token}"
        async with stream(peer) as listener:
            await listener.next()
            await revoke_token(store, "page")
            with pytest.raises(EOFError):
                await listener.told()
        await store.aclose()


async def test_a_grid_that_ends_ends_its_streams(tmp_path):
    with fedplan_process("serve", "--port", 0, "--data", tmp_path) as process:
        url = process.stdout.readline().strip()
        async with httpx.AsyncClient(base_url=url) as http, stream(Peer(http)) as listener:
            await listener.next()
            started = time.monotonic()
            process.terminate()
            with pytest.raises((EOFError, httpx.RemoteProtocolError)):
                await listener.next()
            assert await asyncio.to_thread(process.wait, 30) is not None
        assert time.monotonic() - started < 8  # uvicorn's patience with open requests is ten seconds


async def test_an_event_holds_no_secret(own):
    secret = "a secret of thirty-two bytes, say"
    await own.post("host-training", **hosting(server={"max_diffs": 1, "authentication": {"secret": secret}}))
    await own.post("authenticate", model_name="m", model_version="1.0", auth_token="eyJ.wrong.token")
    await asyncio.sleep(0.2)
    text = (await own.http.get(PATH)).text
    assert '"refused"' in text
    assert secret not in text
    assert "eyJ.wrong" not in text
