"""Secure rounds with real sockets: workers, a grid, and the sum that is left without the masks."""

import asyncio
import base64
from collections import defaultdict

import numpy as np
import pytest

import fedplan
from fedplan.client import Syft
from fedplan.client.transport.secure import SecureCalls
from fedplan.errors import CheckpointError, GridResponseError, SecureRoundError
from fedplan.federation.secure.cycles import PROTOCOL_NAME
from tests.client.secure.rounds import (
    LENGTH,
    VERSION,
    Workers,
    data_of,
    host,
    is_changed_by,
    own_masks_off,
    secure,
)
from tests.client.training_cases import make_model


async def test_thirty_per_cent_drop_out_over_the_stages_and_the_sum_is_that_of_the_others_bit_for_bit(
    owner, url, clock, monkeypatch
):
    await host(owner, "dropping", secure())
    workers = Workers(url, "dropping", monkeypatch)
    leaves = {0: "keys", 4: "shares", 7: "reports"}
    running = [asyncio.create_task(workers.one(n, leaves.get(n, ""))) for n in range(10)]
    for stage, count in (("keys", 10), ("shares", 9), ("reports", 8), ("unmasking", 7)):
        await workers.until(stage, count)
        clock.shift += LENGTH if count < 10 else 0
    states = await asyncio.gather(*running)
    assert states == [f"gone after {leaves[n]}" if n in leaves else "reported" for n in range(10)]
    await owner.wait_async("dropping", VERSION, checkpoint=2, timeout=60)
    after = await owner.retrieve_model_async("dropping", VERSION)
    assert is_changed_by(make_model(), after, workers.average({1, 2, 3, 5, 6, 7, 8, 9}))
    (row,) = await owner.history_async("dropping", VERSION)
    assert (row.reports, row.samples) == (8, sum(5 + n for n in (1, 2, 3, 5, 6, 7, 8, 9)))
    assert row.metrics["training_loss"].weight == row.samples


async def test_more_than_may_drop_out_end_the_round_without_a_sum_and_the_next_one_works(
    owner, url, clock, monkeypatch
):
    await host(owner, "failing", secure(4))
    workers = Workers(url, "failing", monkeypatch)
    leaves = {0: "shares", 1: "shares"}
    running = [asyncio.create_task(workers.one(n, leaves.get(n, ""))) for n in range(4)]
    await workers.until("reports", 2)
    clock.shift += LENGTH
    states = await asyncio.gather(*running)
    assert "2 workers reported, and 3 are needed" in states[2]
    assert "nothing of any report was unmasked" in states[3]
    status = await owner.status_async("failing")
    assert "2 workers reported" in status.models[0].last_failure
    assert len(status.models[0].checkpoints) == 1
    again = Workers(url, "failing", monkeypatch)
    assert await asyncio.gather(*(again.one(n) for n in range(4))) == ["reported"] * 4
    await owner.wait_async("failing", VERSION, checkpoint=2, timeout=60)
    after = await owner.retrieve_model_async("failing", VERSION)
    assert is_changed_by(make_model(), after, again.average({0, 1, 2, 3}))


async def test_a_round_that_is_not_gathered_fails_and_its_workers_are_told_to_ask_again(
    owner, url, clock, monkeypatch
):
    await host(owner, "lonely", secure(4, num_cycles=1))
    workers = Workers(url, "lonely", monkeypatch)
    running = asyncio.create_task(workers.one(0))
    await workers.until("keys", 1)
    clock.shift += LENGTH
    assert await running == "rejected"
    status = await owner.status_async("lonely")
    assert "1 worker asked to take part, and 3 are needed" in status.models[0].last_failure


async def test_no_update_is_in_what_the_grid_receives_and_stores_nor_can_be_computed_from_it(
    owner, url, received, folder, monkeypatch
):
    fine = {"clip": 2.0**-10}  # so that a report is no run of zeros, which a database has anyhow
    await host(owner, "seen", secure(4, secure_aggregation=fine))
    stored = bytearray()

    def look(_stage):
        for path in folder.rglob("*"):
            if path.is_file():
                stored.extend(path.read_bytes())

    messages, by_worker = [], defaultdict(dict)
    send = SecureCalls.send

    async def noting(calls, worker_id, request_key, stage, message):
        messages.append((stage, message))
        by_worker[worker_id][stage] = message
        await send(calls, worker_id, request_key, stage, message)

    monkeypatch.setattr(SecureCalls, "send", noting)
    del received.bytes[:]
    workers = Workers(url, "seen", monkeypatch, look)
    assert await asyncio.gather(*(workers.one(n) for n in range(4))) == ["reported"] * 4
    seen = bytes(received.bytes) + bytes(stored)
    assert len(messages) == 16
    assert all(message in seen for _, message in messages)  # the record is whole
    assert all(message in stored for stage, message in messages if stage in ("reports", "shares"))
    ring = workers.manifest.ring
    for number in range(4):
        payload = workers.payloads[number]
        residues = payload.masked(workers.manifest)
        bare = [
            workers.diffs[number],
            fedplan.wire.State.parse(workers.diffs[number]).tensors[0].array.tobytes(),
            ring.pack(residues.vector),
            residues.vector.tobytes(),
            payload.values.tobytes(),
            residues.figures.tobytes()[8:],
        ]
        for update in bare:
            assert len(set(update)) > 5
            assert update not in seen
            assert base64.b64encode(update).rstrip(b"=")[:-2] not in seen
    for residues, left in own_masks_off(workers, by_worker):
        assert np.count_nonzero(ring.signed(residues.vector) == ring.signed(left.vector)) < 5  # by chance
        assert not (residues.figures == left.figures).any()


async def test_the_usual_worker_takes_part_without_a_change(owner, url):
    await host(owner, "usual", secure(3, num_cycles=2))

    async def usual(number):
        images, labels = data_of(number)
        return await fedplan.participate_async(
            url, "usual", VERSION, images, labels, cycles=None, wait=True, progress=False
        )

    for result in await asyncio.gather(*map(usual, range(3))):
        assert (result.cycles, result.refused) == (2, 0)
    status = await owner.wait_async("usual", VERSION, finished=True, timeout=60)
    assert status.checkpoints[0].number == 3


async def test_a_worker_finds_the_protocol_with_its_numbers_in_the_job(owner, url):
    await host(owner, "told", secure(3))

    async def told():
        async with Syft(url) as syft:
            job = syft.new_job("told", VERSION)
            await job.start()
            protocol, place = job.protocols[PROTOCOL_NAME], job._place
            images, labels = data_of(0)
            training = job.train("training_plan", data=images, target=labels)
            await training.wait()
            with pytest.raises(CheckpointError, match="has dropped out of it"):
                await job.resume(await training.stop())
            return protocol.description, place

    descriptions = await asyncio.gather(told(), told(), told())
    assert '"workers": 3' in descriptions[0][0]


async def test_a_report_without_masks_is_refused_and_so_is_one_that_comes_too_late(
    owner, url, clock, monkeypatch
):
    await host(owner, "late", secure(3))
    async with Syft(url) as syft:
        jobs = [syft.new_job("late", VERSION) for _ in range(3)]
        await asyncio.gather(*(job.start() for job in jobs))
        place = jobs[0]._place
        with pytest.raises(GridResponseError, match="not under masks is neither read nor kept"):
            await syft._grid.report(place.worker_id, place.request_key, make_model().serialize())
        clock.shift += LENGTH
        images, labels = data_of(0)
        trained = await jobs[0].train("training_plan", data=images, target=labels).wait()
        diff = await jobs[0].model.create_serialized_diff_from_model(trained)
        await owner.status_async("late")
        async with asyncio.timeout(60):
            while (await owner.status_async("late")).models[0].cycle.number == 1:
                await asyncio.sleep(0.05)
        with pytest.raises((GridResponseError, SecureRoundError)):
            await jobs[0].report(diff)
