"""A grid that starts again between any two messages of a secure round says what it said, and goes on."""

import asyncio
import base64

import numpy as np

from fedplan.federation.secure import Received, SecureWorker, Terms, dequantise, payload_of
from fedplan.federation.secure.cycles import cycle_name
from tests.grid.clock import Clock
from tests.grid.models import MODEL
from tests.grid.secure.test_sending import SAYS, SECURE, asked, entered, sent


class Members:
    """The workers of a round, who send what belongs to a stage when the one before has ended."""

    def __init__(self, workers):
        self.workers = workers
        self.secure = [SecureWorker(cycle_name("m", "1.0", 1)) for _ in workers]
        self.payloads = []

    async def tell_keys(self):
        for worker, secure in zip(self.workers, self.secure, strict=True):
            assert (await sent(worker, "keys", secure.keys)).status_code == 200

    async def share(self):
        announcement = await self.told("keys")
        manifest = Terms.parse(announcement[0]).manifest
        for worker, secure, message in zip(self.workers, self.secure, announcement, strict=True):
            secure.join(message, Received(manifest.model, manifest.plans, manifest.client_config))
            assert (await sent(worker, "shares", secure.share())).status_code == 200

    async def report(self):
        deliveries = await self.told("shares")
        for worker, secure, message in zip(self.workers, self.secure, deliveries, strict=True):
            secure.receive(message)
            update = [np.full(array.shape, 0.25, np.float32) for array in MODEL]
            self.payloads.append(payload_of(secure.terms.manifest, update, {"weight": 2.0})[0])
            assert (await sent(worker, "reports", secure.report(self.payloads[-1]))).status_code == 200

    async def answer(self, *numbers):
        questions = await self.told("reports")
        for number in numbers:
            answer = self.secure[number].answer(questions[number])
            assert (await sent(self.workers[number], "unmasking", answer)).status_code == 200

    async def told(self, stage):
        """What the grid sends each of them after a stage."""
        messages = []
        for worker in self.workers:
            answer = await asked(worker, stage)
            while "retry_after" in answer:
                await asyncio.sleep(0.02)
                answer = await asked(worker, stage)
            assert "message" in answer, answer
            messages.append(base64.b64decode(answer["message"]))
        return messages

    def at(self, peer):
        for worker in self.workers:
            worker.peer = peer

    def averaged(self):
        """The model that the plain sum of what they have reported makes."""
        manifest = self.secure[0].terms.manifest
        parts = np.split(sum(p.values for p in self.payloads), np.cumsum(manifest.sizes)[:-1])
        factor = manifest.most_weight / (2.0 * len(self.payloads))
        changes = [dequantise(p, e) * factor for p, e in zip(parts, manifest.exponents, strict=True)]
        return [
            array - change.reshape(array.shape).astype(np.float32)
            for array, change in zip(MODEL, changes, strict=True)
        ]


async def test_a_round_whose_grid_starts_again_after_each_stage_has_the_same_sum(open_grid):
    async with open_grid() as peer:
        round = Members(await entered(peer))
        await round.tell_keys()
        said = await round.told("keys")
    for send, before, after in (
        (round.share, "keys", "shares"),
        (round.report, "shares", "reports"),
        (lambda: round.answer(0, 1, 2), "reports", None),
    ):
        async with open_grid() as peer:
            round.at(peer)
            assert await round.told(before) == said
            await send()
            said = [] if after is None else await round.told(after)
    async with open_grid() as peer:
        await peer.until_checkpoint(2)
        for array, expected in zip(await peer.checkpoint(), round.averaged(), strict=True):
            np.testing.assert_array_equal(array, expected)


async def test_who_reported_finishes_also_when_the_sum_was_made_and_the_grid_started_again(open_grid):
    clock = Clock()
    four = SECURE["secure_aggregation"] | {"workers": 4}
    async with open_grid(clock=clock) as peer:
        await peer.host(server=SECURE | {"secure_aggregation": four})
        round = Members([await peer.join(**SAYS) for _ in range(4)])
        await round.tell_keys()
        await round.share()
        await round.report()
        await round.answer(0, 1, 2)
        clock.now += 100
        await peer.until_checkpoint(2)
    async with open_grid(clock=clock) as peer:
        round.at(peer)
        await round.answer(3)
        assert "is over" in (await asked(round.workers[0], "shares"))["failure"]
        assert (await peer.status())["checkpoints"][0]["number"] == 2
