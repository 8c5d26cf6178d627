"""Downloads as zstd, over real sockets: who gets it, when it pays, and what caches are told."""

import asyncio
import dataclasses
import functools
import secrets

import httpx
import numpy as np
import pytest
import torch

from fedplan.grid.blobs import blobs
from fedplan.plan import trace
from fedplan.wire import schema
from fedplan.wire.encoding import ZstdReader
from tests.grid.models import state
from tests.grid.peers import Peer, Worker

BROWSER = "gzip, deflate, br, zstd"
VARY = "Accept-Encoding, Origin"
MODEL = state(np.random.default_rng(0).normal(size=(200, 100)))
NOISE = state(np.nan_to_num(np.frombuffer(np.random.default_rng(0).bytes(40_000), "f4"), posinf=1, neginf=1))
PROTOCOL = schema.Protocol(name="handshake " * 200).encode()


@functools.cache
def long_plan():
    def step(x):
        for _ in range(50):
            x = torch.sin(x) * 2
        return x

    return trace(step, torch.zeros(3)).serialize()


@dataclasses.dataclass
class Reply:
    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def content(self):
        """The body without its coding."""
        reader = ZstdReader()
        content = b"".join(reader.pieces(self.body))
        reader.end()
        return content


@dataclasses.dataclass
class Taken:
    """A worker in a cycle, and what it may download."""

    worker: Worker
    name: str

    @property
    def calls(self):
        accepted = self.worker.accepted
        keys = {"worker_id": self.worker.worker_id, "request_key": self.worker.request_key}
        return {
            "get-model": keys | {"model_id": accepted["model_id"]},
            "get-plan": keys | {"plan_id": accepted["plans"]["p"]},
            "get-protocol": keys | {"protocol_id": accepted["protocols"]["handshake"]},
            "retrieve-model": {"name": self.name, "checkpoint": "1"},
        }

    async def get(self, call="get-model", accept=None, kept=None):
        """A download as it comes over the line."""
        http = self.worker.peer.http
        request = http.build_request("GET", f"/model-centric/{call}", params=self.calls[call])
        for name, value in (("accept-encoding", accept), ("if-none-match", kept)):
            request.headers.pop(name, None)
            if value is not None:
                request.headers[name] = value
        reply = await http.send(request, stream=True)
        body = b"".join([piece async for piece in reply.aiter_raw()])
        await reply.aclose()
        return Reply(reply.status_code, reply.headers, body)


async def join(peer, model=MODEL):
    name = f"m-{secrets.token_hex(4)}"
    await peer.host(
        name, model=model, plans={"p": long_plan().hex()}, protocols={"handshake": PROTOCOL.hex()}
    )
    return Taken(await peer.join(name), name)


@pytest.fixture
async def taken(http):
    return await join(Peer(http))


@pytest.mark.parametrize("call", ["get-model", "get-plan", "get-protocol", "retrieve-model"])
async def test_every_download_is_sent_as_zstd_to_who_takes_it(taken, call):
    plain, packed = await taken.get(call), await taken.get(call, BROWSER)
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "zstd"
    assert packed.headers["content-type"] == "application/octet-stream"
    assert int(packed.headers["content-length"]) == len(packed.body) <= 0.95 * len(plain.body)
    assert packed.content == plain.body
    assert packed.headers["etag"] != plain.headers["etag"]
    assert plain.headers["vary"] == packed.headers["vary"] == VARY


@pytest.mark.parametrize("accept", [None, "", "gzip, deflate", "*", "zstd;q=0", "identity, zstd;q=0.5"])
async def test_others_get_the_bytes_as_they_are(taken, accept):
    reply = await taken.get(accept=accept)
    assert "content-encoding" not in reply.headers
    assert reply.headers["vary"] == VARY
    assert reply.body == MODEL


async def test_a_small_body_is_sent_as_it_is(http):
    taken = await join(Peer(http), state(np.zeros(200)))
    reply = await taken.get(accept="zstd")
    assert "content-encoding" not in reply.headers
    assert len(reply.body) < 1024


async def test_what_gets_no_smaller_is_sent_as_it_is(http):
    taken = await join(Peer(http), NOISE)
    for _ in range(2):
        reply = await taken.get(accept="zstd")
        assert "content-encoding" not in reply.headers
        assert reply.headers["vary"] == VARY
        assert reply.body == NOISE
    assert reply.headers["etag"] == (await taken.get()).headers["etag"]


async def test_what_is_too_large_to_be_remembered_is_sent_as_it_is(open_grid):
    async with open_grid(remembered_bytes=4 * len(MODEL) - 4) as peer:
        reply = await (await join(peer)).get(accept="zstd")
    assert "content-encoding" not in reply.headers
    assert reply.headers["vary"] == VARY
    assert reply.body == MODEL


@pytest.mark.parametrize("model", [MODEL, NOISE])
async def test_a_model_is_compressed_once_for_all(open_grid, monkeypatch, model):
    compressed = []

    def noted(data):
        compressed.append(len(data))
        return to_zstd(data)

    to_zstd = blobs.to_zstd
    monkeypatch.setattr(blobs, "to_zstd", noted)
    async with open_grid() as peer:
        taken = await join(peer, model)
        replies = await asyncio.gather(*(taken.get(accept="zstd") for _ in range(10)))
        again = await taken.get(accept="zstd")
    assert {reply.body for reply in replies} == {again.body}
    assert compressed == [len(model)]


class TestWhatAClientHasAlready:
    @pytest.fixture
    async def tags(self, taken):
        return [(await taken.get(accept=accept)).headers["etag"] for accept in (None, "zstd")]

    @pytest.mark.parametrize("wrap", ["{}", "W/{}", '"other", {}'])
    async def test_is_not_sent_again_in_any_form_that_it_takes(self, taken, tags, wrap):
        plain, packed = tags
        for accept, tag in (("zstd", plain), ("zstd", packed), (None, plain)):
            reply = await taken.get(accept=accept, kept=wrap.format(tag))
            assert (reply.status, reply.body) == (304, b"")
            assert reply.headers["etag"] == tag
            assert reply.headers["vary"] == VARY
            assert "content-encoding" not in reply.headers

    async def test_is_sent_to_who_does_not_take_that_form(self, taken, tags):
        """A cache may ask for one client with what it holds for another."""
        plain, packed = tags
        reply = await taken.get(kept=packed)
        assert (reply.status, reply.headers["etag"], reply.body) == (200, plain, MODEL)
