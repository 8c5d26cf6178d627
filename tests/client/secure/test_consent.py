"""A worker whose policy asks for secure aggregation trains in a secure round, and in no other cycle."""

import asyncio

import pytest

from fedplan.client import ConsentPolicy, LeastPrivacy, Syft, participate_async
from fedplan.client.transport.api import GridApi
from fedplan.errors import CycleDeclinedError, GridResponseError, JobStateError
from tests.client.secure.rounds import VERSION, data_of, host, secure

POLICY = ConsentPolicy(privacy=LeastPrivacy(secure_aggregation=True))


async def test_a_secure_round_is_accepted(owner, url):
    await host(owner, "accepted", secure(4, num_cycles=1))
    done = await asyncio.gather(
        *(participate_async(url, "accepted", VERSION, *data_of(n), accept=POLICY) for n in range(4))
    )
    assert [one.cycles for one in done] == [1, 1, 1, 1]


async def test_a_cycle_in_which_the_grid_sees_reports_is_not(owner, url):
    await host(owner, "bare", {"max_diffs": 1})
    with pytest.raises(CycleDeclinedError, match="the grid sees each worker's report"):
        await participate_async(url, "bare", VERSION, *data_of(0), accept=POLICY)


async def test_a_worker_that_refuses_was_never_in_the_round(owner, url):
    await host(owner, "refused", secure(4, num_cycles=1))
    seen = []

    def refuse(job):
        seen.append((list(job.plans), "secure_aggregation" in job.protocols, job.task, job.cycle))
        return "not today"

    async with asyncio.timeout(20):  # it would wait for the other workers' keys
        with pytest.raises(CycleDeclinedError, match="not today"):
            await participate_async(url, "refused", VERSION, *data_of(0), accept=refuse)
        assert seen == [(["training_plan"], True, "training", 1)]
        done = await asyncio.gather(
            *(participate_async(url, "refused", VERSION, *data_of(n), accept=POLICY) for n in range(4))
        )
    assert [one.cycles for one in done] == [1, 1, 1, 1]


async def test_without_the_protocol_a_worker_leaves_and_reports_nothing(owner, url, monkeypatch):
    await host(owner, "withheld", secure(3))

    async def refused(*_):
        raise GridResponseError("the cycle is over", status=409)

    monkeypatch.setattr(GridApi, "get_protocol", refused)
    async with Syft(url) as syft:
        job = syft.new_job("withheld", VERSION)
        with pytest.raises(GridResponseError, match="the cycle is over"):
            await job.start()
        with pytest.raises(JobStateError):
            await job.report(b"")
    assert (await owner.status_async("withheld")).models[0].cycle.accepted == 0
