"""What a token's subject may do, whatever worker ids it has; and until when an id is good."""

import asyncio
import time

import jwt
import numpy as np
import pytest

from tests.grid.clock import Clock
from tests.grid.models import MODEL, hosting
from tests.grid.peers import Worker

SECRET = "a secret of at least thirty-two bytes"
CHECKED = {"authentication": {"secret": SECRET}}


def token(subject, **claims):
    named = {} if subject is None else {"sub": subject}
    return jwt.encode(named | {"exp": time.time() + 3600} | claims, SECRET, algorithm="HS256")


async def joined(peer, subject):
    """A new worker of a subject, in the cycle."""
    worker_id = await peer.authenticate(auth_token=token(subject))
    answer = await peer.ask(worker_id)
    assert answer["status"] == "accepted", answer
    return Worker(peer, worker_id, answer)


class TestASubject:
    async def test_has_one_place_in_a_cycle_whatever_worker_ids_it_has(self, peer):
        await peer.host(server=CHECKED | {"max_workers": 2, "pool_selection": "iterate"})
        for _ in range(5):
            await joined(peer, "ann")
            assert (await peer.status())["cycle"]["accepted"] == 1
        await joined(peer, "bob")
        eve = await peer.authenticate(auth_token=token("eve"))
        assert (await peer.ask(eve))["status"] == "rejected"

    async def test_reports_once_in_a_cycle_by_whichever_worker_is_first(self, peer):
        await peer.host(server=CHECKED | {"max_diffs": 2})
        old, new = await joined(peer, "ann"), await joined(peer, "ann")
        assert (await old.report(1)).status_code == 200  # its work is not lost
        cycle = (await peer.status())["cycle"]
        assert (cycle["accepted"], cycle["reported"]) == (1, 1)
        refused = await new.report(5)
        assert refused.status_code == 409
        assert "same subject has reported" in refused.json()["error"]
        assert (await old.report(1)).status_code == 200  # the same again, which counts once
        assert (await peer.ask(new.worker_id))["status"] == "rejected"
        again = await peer.authenticate(auth_token=token("ann"))
        assert (await peer.ask(again))["status"] == "rejected"
        assert (await (await joined(peer, "bob")).report(3)).status_code == 200
        await peer.until_checkpoint(2)
        np.testing.assert_allclose((await peer.checkpoint())[1], MODEL[1] - 2)

    async def test_that_is_loaded_again_goes_on_as_another_worker(self, peer):
        await peer.host(server=CHECKED | {"max_diffs": 1})
        old, new = await joined(peer, "ann"), await joined(peer, "ann")
        assert (await new.report(1)).status_code == 200
        assert (await old.report(5)).status_code == 409
        await peer.until_checkpoint(2)

    async def test_reports_once_also_where_late_reports_go_into_later_cycles(self, peer):
        strategy = {"name": "fedbuff", "k": 2}
        await peer.host(server=CHECKED | {"strategy": strategy})
        old, new = await joined(peer, "ann"), await joined(peer, "ann")
        assert (await new.report(1)).status_code == 200
        async with asyncio.timeout(5):
            refused = await old.report(5)
        assert refused.status_code == 409
        assert "same subject has reported" in refused.json()["error"]
        assert (await (await joined(peer, "bob")).report(3)).status_code == 200
        await peer.until_checkpoint(2)
        async with asyncio.timeout(5):
            assert (await old.report(5)).status_code == 409  # and not into the cycle of now
        np.testing.assert_allclose((await peer.checkpoint())[1], MODEL[1] - 2)

    async def test_gets_back_and_forth_between_its_workers(self, peer):
        await peer.host(server=CHECKED | {"max_diffs": 2})
        one, other = await joined(peer, "ann"), await joined(peer, "ann")
        answer = await peer.ask(one.worker_id)
        assert answer["status"] == "accepted"
        assert (await peer.status())["cycle"]["accepted"] == 1
        assert (await other.report(1)).status_code == 200
        cycle = (await peer.status())["cycle"]
        assert (cycle["accepted"], cycle["reported"]) == (1, 1)

    async def test_does_not_come_with_worker_ids_without_end(self, peer):
        await peer.host(server=CHECKED | {"max_diffs": 2})
        for _ in range(10):
            await joined(peer, "ann")
        worker_id = await peer.authenticate(auth_token=token("ann"))
        reply = await peer.post("cycle-request", worker_id=worker_id, model="m", version="1.0")
        assert reply.status_code == 503
        assert "10 worker ids" in reply.json()["error"]

    async def test_has_one_place_and_one_report_where_its_workers_come_to_several_replicas_at_once(
        self, open_grid
    ):
        async with open_grid() as one, open_grid() as other:
            await one.host(server=CHECKED | {"max_diffs": 2})
            replicas = [one, other] * 3
            workers = await asyncio.gather(*(joined(peer, "ann") for peer in replicas))
            assert (await one.status())["cycle"]["accepted"] == 1
            replies = await asyncio.gather(*(worker.report(n) for n, worker in enumerate(workers)))
            assert sorted(reply.status_code for reply in replies) == [200] + [409] * 5
            cycle = (await one.status())["cycle"]
            assert (cycle["accepted"], cycle["reported"]) == (1, 1)

    async def test_waits_once_for_a_place(self, peer):
        await peer.host(server=CHECKED | {"min_workers": 2})
        for subject, status in (("ann", "rejected"), ("ann", "rejected"), ("bob", "accepted")):
            worker_id = await peer.authenticate(auth_token=token(subject))
            assert (await peer.ask(worker_id))["status"] == status

    async def test_that_tokens_do_not_name_has_a_place_for_each_worker(self, peer):
        await peer.host(server=CHECKED | {"max_diffs": 3})
        for places in (1, 2):
            worker_id = await peer.authenticate(auth_token=token(None))
            assert (await peer.ask(worker_id))["status"] == "accepted"
            assert (await peer.status())["cycle"]["accepted"] == places


class TestAWorkerId:
    @pytest.fixture
    async def clock(self):
        return Clock(time.time())

    async def test_holds_as_long_as_its_token_and_may_report_what_it_trained_before(self, open_grid, clock):
        async with open_grid(clock=clock) as peer:
            await peer.host(server=CHECKED | {"max_diffs": 2})
            ann = await joined(peer, "ann")
            clock.now += 3600 + 20  # within what clocks may differ
            assert (await peer.ask(ann.worker_id))["status"] == "accepted"
            clock.now += 20
            reply = await peer.post("cycle-request", worker_id=ann.worker_id, model="m", version="1.0")
            assert reply.status_code == 401
            assert "has expired; authenticate again" in reply.json()["error"]
            assert (await ann.get("get-model", model_id=ann.accepted["model_id"])).status_code == 200
            assert (await ann.report(1)).status_code == 200

    async def test_holds_for_some_days_where_no_token_says_for_how_long(self, open_grid, clock):
        async with open_grid(clock=clock) as peer:
            await peer.host(server={"max_diffs": 2})
            worker = await peer.join()
            clock.now += 6.9 * 86_400
            assert (await peer.ask(worker.worker_id))["status"] == "accepted"
            clock.now += 0.2 * 86_400
            reply = await peer.post("cycle-request", worker_id=worker.worker_id, model="m", version="1.0")
            assert reply.status_code == 401
        async with open_grid(clock=clock, worker_id_seconds=60) as peer:
            worker_id = await peer.authenticate()
            clock.now += 62
            reply = await peer.post("cycle-request", worker_id=worker_id, model="m", version="1.0")
            assert reply.status_code == 401


async def test_a_model_is_not_hosted_with_an_address_that_the_operator_does_not_allow(open_grid):
    asked = {"authentication": {"endpoint": "http://127.0.0.1:9/x"}}
    async with open_grid() as peer:
        reply = await peer.post("host-training", **hosting(server=asked))
        assert reply.status_code == 400
        assert "FEDPLAN_AUTH_ENDPOINTS" in reply.json()["error"]
    async with open_grid(auth_endpoints=["http://127.0.0.1:9"]) as peer:
        await peer.host(server=asked)
    async with open_grid() as peer:  # the operator has changed its mind
        reply = await peer.post("authenticate", model_name="m", auth_token="t")
        assert reply.status_code == 401
        assert "not allowed to ask" in reply.json()["error"]
