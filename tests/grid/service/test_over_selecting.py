"""A model that over-selects: its cycles take more workers than they need, if workers dropped out before."""

import pytest

from tests.grid.peers import Worker

SERVER = {"max_diffs": 4, "over_selection": 2.0, "pool_selection": "iterate"}


async def joined(peer, most=20):
    """Workers that come until the cycle is full."""
    workers = []
    for _ in range(most):
        worker_id = await peer.authenticate()
        answer = await peer.ask(worker_id)
        if answer["status"] == "rejected":
            return workers
        workers.append(Worker(peer, worker_id, answer))
    raise AssertionError("the cycle takes everybody")


@pytest.fixture
def clock():
    return [1_000_000.0]


async def test_a_cycle_takes_more_after_one_in_which_workers_dropped_out(open_grid, clock):
    async with open_grid(clock=lambda: clock[0]) as peer:
        await peer.host(server={**SERVER, "place_timeout": 600})
        first = await joined(peer)
        assert len(first) == 4
        clock[0] += 10
        for worker in first[:2]:
            assert (await worker.report()).status_code == 200
        clock[0] += 600
        await peer.until(lambda model: model["cycle"]["accepted"] == 2)  # two places have lapsed
        others = await joined(peer)
        assert len(others) == 2
        clock[0] += 10
        for worker in others:
            assert (await worker.report()).status_code == 200
        await peer.until_checkpoint(2)
        assert len(await joined(peer)) == 8  # half of those of whom it is known dropped out
        events = (await peer.http.get("/model-centric/events")).json()["events"]
        assert [event["details"].get("places") for event in events if event["kind"] == "opened"] == [8]


async def test_a_cycle_takes_no_more_than_it_needs_where_all_report_and_where_nothing_is_known(
    open_grid, clock
):
    async with open_grid(clock=lambda: clock[0]) as peer:
        await peer.host(server=SERVER)
        for checkpoint in (2, 3):
            workers = await joined(peer)
            assert len(workers) == 4
            clock[0] += 10
            for worker in workers:
                assert (await worker.report()).status_code == 200
            await peer.until_checkpoint(checkpoint)


async def test_a_model_that_does_not_say_so_takes_as_many_as_ever(peer):
    await peer.host(server={"max_diffs": 1})
    for _ in range(5):
        await peer.join()
