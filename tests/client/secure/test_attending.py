"""Secure rounds with real sockets: workers, a grid, and the sum that is left without the masks."""

import asyncio
import base64
from collections import defaultdict

import numpy as np
import pytest

import fedplan
from fedplan.client import Syft
from fedplan.client.transport.secure import SecureCalls
from fedplan.errors import CheckpointError, CycleRejectedError, GridResponseError, SecureRoundError
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
from tests.long import only_in_the_long_form

LEAVES = ("place", "keys", "shares", "reports")
"""After what a worker may be gone; in this order, for those who leave are the first."""


def leaving(each: dict[str, int]) -> dict[int, str]:
    """After what each worker is gone that leaves, by their numbers."""
    return dict(enumerate(leaves for leaves in LEAVES for _ in range(each.get(leaves, 0))))


async def played(workers, clock, count, leaves):
    """What becomes of the workers of a round, whose deadlines pass as soon as nobody comes any more."""
    running = [asyncio.create_task(workers.one(n, leaves.get(n, ""))) for n in range(count)]
    there = count
    for stage, before in (
        ("keys", "place"),
        ("shares", "keys"),
        ("reports", "shares"),
        ("unmasking", "reports"),
    ):
        gone = [*leaves.values()].count(before)
        there -= gone
        await workers.until(stage, there)
        clock.shift += LENGTH if gone else 0
    return await asyncio.gather(*running)


@pytest.mark.parametrize(
    ("count", "each"),
    [
        (10, {"keys": 1, "shares": 1, "reports": 1}),
        pytest.param(50, dict.fromkeys(LEAVES, 4) | {"place": 3}, marks=only_in_the_long_form),
        pytest.param(100, {"place": 7, "keys": 8, "shares": 8, "reports": 7}, marks=only_in_the_long_form),
    ],
)
async def test_thirty_per_cent_drop_out_over_the_stages_and_the_sum_is_that_of_the_others_bit_for_bit(
    owner, url, clock, monkeypatch, count, each
):
    name, leaves = f"{count} workers", leaving(each)
    await host(owner, name, secure(count, max_weight=200.0))
    workers = Workers(url, name, monkeypatch)
    states = await played(workers, clock, count, leaves)
    assert states == [f"gone after {leaves[n]}" if n in leaves else "reported" for n in range(count)]
    await owner.wait_async(name, VERSION, checkpoint=2, timeout=60)
    after = await owner.retrieve_model_async(name, VERSION)
    reported = {n for n in range(count) if leaves.get(n, "reports") == "reports"}
    assert is_changed_by(make_model(), after, workers.average(reported))
    (row,) = await owner.history_async(name, VERSION)
    assert (row.reports, row.samples) == (len(reported), sum(5 + n for n in reported))
    assert row.metrics["training_loss"].weight == row.samples


@pytest.mark.some(2)
@pytest.mark.parametrize(
    ("last", "told", "why"),
    [
        ("place", "keys", "2 workers told their keys, and 3 are needed"),
        ("keys", "shares", "2 workers shared their secrets, and 3 are needed"),
        ("shares", "reports", "2 workers reported, and 3 are needed"),
        ("reports", "unmasking", "2 workers answered, and of 4 secrets fewer than 3 shares are there"),
    ],
)
async def test_more_than_may_drop_out_end_the_round_without_a_sum_and_the_next_one_works(
    owner, url, clock, monkeypatch, last, told, why
):
    name = f"too few after {last}"
    await host(owner, name, secure(4))
    workers = Workers(url, name, monkeypatch)
    running = [asyncio.create_task(workers.one(n, last if n < 2 else "")) for n in range(4)]
    await workers.until(told, 2)
    clock.shift += LENGTH
    states = await asyncio.gather(*running)
    assert states[:2] == [f"gone after {last}"] * 2
    if told in ("shares", "reports"):  # before, a worker may ask again; after, it has done all that it can
        assert all(why in state for state in states[2:])
    else:
        assert states[2:] == [{"keys": "rejected", "unmasking": "reported"}[told]] * 2
    async with asyncio.timeout(60):
        while (status := await owner.status_async(name)).models[0].last_failure is None:
            await asyncio.sleep(0.02)
    assert why in status.models[0].last_failure
    assert "without a sum" in status.models[0].last_failure
    assert len(status.models[0].checkpoints) == 1
    again = Workers(url, name, monkeypatch)
    assert await asyncio.gather(*(again.one(n) for n in range(4))) == ["reported"] * 4
    await owner.wait_async(name, VERSION, checkpoint=2, timeout=60)
    after = await owner.retrieve_model_async(name, VERSION)
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


async def held_at_reports(syft, name, clock, count=4):
    """Jobs of which three are held when they have shared, after which the stage's time passes."""
    jobs = [syft.new_job(name, VERSION) for _ in range(count)]
    shared, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def hold(event):
        if event.stage == "shares":
            shared.release()
            await go_on.wait()

    for job in jobs[:3]:
        job.on("secure_stage", hold)
    await asyncio.gather(*(job.start() for job in jobs))
    running = [asyncio.create_task(report_of(job, number)) for number, job in enumerate(jobs[:3])]
    for _ in running:
        await shared.acquire()
    clock.shift += LENGTH
    return jobs[-1], running, go_on


async def report_of(job, number):
    images, labels = data_of(number)
    trained = await job.train("training_plan", data=images, target=labels).wait()
    await job.report(await job.model.create_serialized_diff_from_model(trained))


async def until_stage(owner, name, stage):
    async with asyncio.timeout(60):
        while (await owner.status_async(name)).models[0].cycle.stage != stage:
            await asyncio.sleep(0.02)


async def test_who_is_too_slow_is_told_to_ask_again_while_the_others_go_on(owner, url, clock):
    await host(owner, "slow", secure(4))
    async with Syft(url) as syft:
        slow, running, go_on = await held_at_reports(syft, "slow", clock)
        await until_stage(owner, "slow", "reports")
        with pytest.raises((GridResponseError, SecureRoundError)):
            await report_of(slow, 3)
        with pytest.raises(CycleRejectedError) as rejected:
            await slow.start()
        assert rejected.value.timeout is not None
        go_on.set()
        await asyncio.gather(*running)
    await owner.wait_async("slow", VERSION, checkpoint=2, timeout=60)


async def test_participate_gives_the_place_back_of_which_it_made_nothing_and_goes_on(owner, url, clock):
    await host(owner, "slow too", secure(4))
    trained = asyncio.Event()

    async def late(_event):
        await trained.wait()

    images, labels = data_of(3)
    usual = fedplan.participate_async(
        url, "slow too", VERSION, images, labels, wait=True, progress=False, events={"end": late}
    )
    async with Syft(url) as syft:
        slow = asyncio.create_task(usual)
        try:
            _, running, go_on = await held_at_reports(syft, "slow too", clock, 3)
            await until_stage(owner, "slow too", "reports")
            assert (await owner.status_async("slow too")).models[0].cycle.accepted == 4
            trained.set()
            async with asyncio.timeout(60):
                while (await owner.status_async("slow too")).models[0].cycle.accepted == 4:
                    assert not slow.done()
                    await asyncio.sleep(0.02)
            go_on.set()
            await asyncio.gather(*running)
            await owner.wait_async("slow too", VERSION, checkpoint=2, timeout=60)
            assert not slow.done()
        finally:
            slow.cancel()
            await asyncio.gather(slow, return_exceptions=True)


async def test_a_worker_that_starts_again_while_others_are_gathered_is_taken_with_its_new_keys(owner, url):
    await host(owner, "again", secure(3))
    async with Syft(url) as syft:

        async def nothing(*_arguments):
            return None

        job, told = syft.new_job("again", VERSION), asyncio.Event()
        job.on("secure_stage", lambda _event: told.set())
        gives_back, job.decline = job.decline, nothing
        first = asyncio.create_task(job.start())
        await told.wait()
        first.cancel()  # it is gone, as if its process were killed
        await asyncio.gather(first, return_exceptions=True)
        job.decline = gives_back
        with pytest.raises(CycleRejectedError) as rejected:
            await job.start()
        assert rejected.value.timeout is not None
        others = [syft.new_job("again", VERSION) for _ in range(2)]
        await asyncio.gather(*(each.start() for each in (job, *others)))
        assert job.cycle == 1


async def test_what_a_report_could_not_hold_is_kept_once_it_is_taken_though_the_worker_fails_then(
    owner, url, clock
):
    await host(owner, "failing", secure(4))

    class LostError(Exception):
        pass

    def lose(event):
        if event.stage == "reports":
            raise LostError

    async with Syft(url) as syft:
        jobs = [syft.new_job("failing", VERSION) for _ in range(4)]
        jobs[0].on("secure_stage", lose)
        await asyncio.gather(*(job.start() for job in jobs))
        results = await asyncio.gather(*map(report_of, jobs, range(4)), return_exceptions=True)
        assert isinstance(results[0], LostError)
        clock.shift += LENGTH  # the others do not know that it is gone
        await owner.wait_async("failing", VERSION, checkpoint=2, timeout=60)
        kept = jobs[0]._remainder.left
        assert any(tensor.any() for tensor in kept)
        await asyncio.gather(*(job.start() for job in jobs))
        await asyncio.gather(*map(report_of, jobs, range(4)), return_exceptions=True)
        assert all(map(np.array_equal, jobs[0]._remainder.before, kept))


@pytest.mark.parametrize("answers", [False, True])
async def test_what_a_report_could_not_hold_is_taken_back_when_the_round_fails_after_it(
    owner, url, clock, answers
):
    name = f"fails after the {'answer' if answers else 'report'}"
    await host(owner, name, secure(3))
    async with Syft(url) as syft:
        jobs, hold = [syft.new_job(name, VERSION) for _ in range(3)], asyncio.Event()
        told = asyncio.Event()
        jobs[0]._remainder.left = before = [np.full((1,), 0.25)]

        async def held(event):
            if event.stage == ("reports" if answers else "shares"):
                await hold.wait()

        def tell(event):
            if event.stage == ("unmasking" if answers else "reports"):
                told.set()

        for job in jobs[1:]:
            job.on("secure_stage", held)
        jobs[0].on("secure_stage", tell)
        await asyncio.gather(*(job.start() for job in jobs))
        running = [asyncio.create_task(report_of(job, number)) for number, job in enumerate(jobs)]
        await told.wait()
        clock.shift += LENGTH
        async with asyncio.timeout(60):
            while (await owner.status_async(name)).models[0].last_failure is None:
                await asyncio.sleep(0.02)
        hold.set()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.gather(*(job.start() for job in jobs))
        await asyncio.gather(*map(report_of, jobs, range(3)))
        assert jobs[0]._remainder.before is before
