"""Raw clients of a grid: they send what shipped clients send, and hide nothing of what comes back."""

import asyncio
import dataclasses

import httpx

from .models import arrays, base64_of, diff, hosting

POST = "/model-centric/"


@dataclasses.dataclass
class Worker:
    """A worker in a cycle."""

    peer: "Peer"
    worker_id: str
    accepted: dict

    @property
    def request_key(self):
        return self.accepted["request_key"]

    async def get(self, call, **query):
        keys = {"worker_id": self.worker_id, "request_key": self.request_key}
        return await self.peer.http.get(f"/model-centric/{call}", params=keys | query)

    async def report(self, value=0.0, **changes):
        """Reports a diff of one value throughout."""
        message = {
            "worker_id": self.worker_id,
            "request_key": self.request_key,
            "diff": base64_of(diff(value)),
        }
        return await self.peer.post("report", **message | changes)


class Peer:
    """Somebody who talks HTTP with a grid."""

    def __init__(self, http: httpx.AsyncClient):
        self.http = http

    async def post(self, call, **message):
        return await self.http.post(f"/model-centric/{call}", json=message)

    async def host(self, name="m", version="1.0", **changes):
        reply = await self.post("host-training", **hosting(name, version, **changes))
        assert reply.status_code == 200, reply.text
        assert reply.json() == {"status": "success"}

    async def authenticate(self, name="m", version="1.0", **more):
        reply = await self.post("authenticate", model_name=name, model_version=version, **more)
        assert reply.status_code == 200, reply.text
        return reply.json()["worker_id"]

    async def ask(self, worker_id, name="m", version="1.0", **speeds):
        """The answer to a cycle request."""
        reply = await self.post("cycle-request", worker_id=worker_id, model=name, version=version, **speeds)
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def join(self, name="m", version="1.0", **speeds) -> Worker:
        worker_id = await self.authenticate(name, version)
        answer = await self.ask(worker_id, name, version, **speeds)
        assert answer["status"] == "accepted", answer
        return Worker(self, worker_id, answer)

    async def status(self, name="m"):
        reply = await self.http.get("/model-centric/status", params={"name": name})
        assert reply.status_code == 200, reply.text
        (model,) = reply.json()["models"]
        return model

    async def checkpoint(self, name="m", checkpoint="latest"):
        query = {"name": name, "checkpoint": checkpoint}
        reply = await self.http.get("/model-centric/retrieve-model", params=query)
        assert reply.status_code == 200, reply.text
        return arrays(reply.content)

    async def until(self, reached, name="m"):
        """Waits until a model's status satisfies a condition."""
        async with asyncio.timeout(60):
            while not reached(model := await self.status(name)):
                await asyncio.sleep(0.005)
        return model

    async def until_checkpoint(self, number, name="m"):
        return await self.until(lambda model: model["checkpoints"][0]["number"] >= number, name)
