import asyncio
import time

import jwt
import pytest
from sqlalchemy import text

from fedplan.grid.identity.auth import key_digest
from tests.grid.models import base64_of, diff, training_plan
from tests.grid.peers import Worker

SECRET = "a secret of at least thirty-two bytes"

SOON = (2, 3, 4)
"""Seconds that a rejected worker is told, about `retry_seconds`."""


def token(**claims):
    return jwt.encode({"exp": time.time() + 60} | claims, SECRET, algorithm="HS256")


class TestAuthenticate:
    async def test_gives_a_worker_id_and_nothing_else_but_what_the_protocol_has(self, peer):
        await peer.host()
        reply = await peer.post("authenticate", model_name="m", model_version="1.0")
        assert reply.status_code == 200
        answer = reply.json()
        assert set(answer) == {"status", "worker_id", "requires_speed_test"}
        assert answer["status"] == "success"
        assert answer["requires_speed_test"] is False
        assert isinstance(answer["worker_id"], str)

    @pytest.mark.parametrize("key", ["minimum_upload_speed", "minimum_download_speed"])
    async def test_asks_for_a_speed_test_where_a_minimum_is_set(self, peer, key):
        await peer.host(server={key: 1})
        reply = await peer.post("authenticate", model_name="m", model_version="1.0")
        assert reply.json()["requires_speed_test"] is True

    async def test_without_a_version_means_the_one_hosted_last(self, peer):
        await peer.host(version="1.0")
        await peer.host(version="2.0")
        worker_id = await peer.authenticate(version=None)
        assert (await peer.ask(worker_id, version=None))["version"] == "2.0"

    async def test_knows_only_hosted_models(self, peer):
        await peer.host()
        for name, version in (("n", "1.0"), ("m", "2.0")):
            reply = await peer.post("authenticate", model_name=name, model_version=version)
            assert reply.status_code == 404
            assert f"no model '{name}' version '{version}'" in reply.json()["error"]

    @pytest.mark.parametrize("wrong", [None, "", "garbage", jwt.encode({}, "x" * 32, algorithm="HS256")])
    async def test_needs_a_token_where_the_model_does(self, peer, wrong):
        await peer.host(server={"max_diffs": 1, "authentication": {"secret": SECRET}})
        reply = await peer.post("authenticate", model_name="m", model_version="1.0", auth_token=wrong)
        assert reply.status_code == 401
        assert "auth_token" in reply.json()["error"]
        worker_id = await peer.authenticate(auth_token=token())
        assert (await peer.ask(worker_id))["status"] == "accepted"


class TestACycleRequest:
    async def test_that_is_accepted_is_answered_with_exactly_the_keys_of_the_protocol(self, peer):
        await peer.host(
            client={"clip": 1.5, "tags": ["a"]},
            protocols={"proto": ""},
            plans={"training_plan": training_plan().hex(), "metrics": training_plan().hex()},
        )
        accepted = (await peer.join()).accepted
        assert set(accepted) == {
            "status",
            "model",
            "version",
            "request_key",
            "plans",
            "protocols",
            "client_config",
            "model_id",
        }
        assert (accepted["model"], accepted["version"]) == ("m", "1.0")
        assert isinstance(accepted["request_key"], str)
        assert isinstance(accepted["model_id"], int)
        assert set(accepted["plans"]) == {"training_plan", "metrics"}
        assert set(accepted["protocols"]) == {"proto"}
        assert all(
            isinstance(id, int) for id in [*accepted["plans"].values(), *accepted["protocols"].values()]
        )
        assert accepted["client_config"] == {
            "name": "m",
            "version": "1.0",
            "batch_size": 4,
            "lr": 0.1,
            "max_updates": 1,
            "clip": 1.5,
            "tags": ["a"],
        }

    async def test_that_is_rejected_is_answered_with_whole_seconds(self, peer):
        await peer.host(server={"max_workers": 1, "cycle_length": 3600})
        await peer.join()
        answer = await peer.ask(await peer.authenticate())
        assert answer["status"] == "rejected"
        assert answer["timeout"] in SOON
        assert isinstance(answer["timeout"], int)

    async def test_to_a_finished_model_is_rejected_for_good(self, peer):
        await peer.host(server={"max_diffs": 1, "num_cycles": 1})
        await (await peer.join()).report()
        await peer.until(lambda model: model["phase"] == "finished")
        assert await peer.ask(await peer.authenticate()) == {"status": "rejected"}

    @pytest.mark.parametrize("worker_id", ["", "me", "A" * 70, 5])
    async def test_needs_a_worker_id_that_the_grid_gave_out(self, peer, worker_id):
        await peer.host()
        reply = await peer.post("cycle-request", worker_id=worker_id, model="m", version="1.0")
        assert reply.status_code == 401
        assert "authenticate first" in reply.json()["error"]
        await peer.join()

    async def test_may_come_with_a_worker_id_given_out_for_another_model(self, peer):
        await peer.host("m", "1.0")
        await peer.host("m", "2.0")
        await peer.host("n")
        worker_id = await peer.authenticate("n")
        for name, version in (("m", "1.0"), ("m", "2.0"), ("n", "1.0")):
            assert (await peer.ask(worker_id, name, version))["status"] == "accepted"
        reply = await peer.post("cycle-request", worker_id=worker_id, model="o", version="1.0")
        assert reply.status_code == 404

    async def test_needs_a_worker_id_given_out_for_a_model_that_asks_for_a_token(self, peer):
        await peer.host("m", server={"authentication": {"secret": SECRET}})
        await peer.host("n", server={"authentication": {"secret": SECRET[::-1]}})
        await peer.host("open")
        n_token = jwt.encode({"exp": time.time() + 60}, SECRET[::-1], algorithm="HS256")
        for worker_id in (await peer.authenticate("open"), await peer.authenticate("n", auth_token=n_token)):
            reply = await peer.post("cycle-request", worker_id=worker_id, model="m", version="1.0")
            assert reply.status_code == 401
            assert "authenticate for this one" in reply.json()["error"]
        worker_id = await peer.authenticate("m", auth_token=token())
        assert (await peer.ask(worker_id, "open"))["status"] == "accepted"

    async def test_of_a_worker_in_the_cycle_is_answered_as_before(self, peer):
        await peer.host(server={"cycle_length": 100})
        worker = await peer.join()
        assert await peer.ask(worker.worker_id) == worker.accepted  # which may have been lost
        assert (await peer.status())["cycle"]["accepted"] == 1
        assert (await worker.report()).status_code == 200
        answer = await peer.ask(worker.worker_id)
        assert answer["status"] == "rejected"
        assert answer["timeout"] in range(99, 105)

    async def test_of_a_worker_that_an_older_grid_took_gets_a_new_key(self, peer):
        await peer.host(server={"max_workers": 2, "max_diffs": 2})
        worker = await peer.join()
        async with peer.app.state.grid.store.writing() as db:
            drawn = {"digest": key_digest("drawn at random")}
            await db.execute(text("UPDATE assignments SET grants = 0, key_digest = :digest"), drawn)
        again = await peer.ask(worker.worker_id)
        old = Worker(peer, worker.worker_id, {**again, "request_key": "drawn at random"})
        assert (await old.report()).status_code == 403
        assert (await Worker(peer, worker.worker_id, again).report()).status_code == 200
        assert (await peer.status())["cycle"]["accepted"] == 1

    @pytest.mark.parametrize(
        ("speeds", "status"),
        [
            ({}, "rejected"),
            ({"ping": -1, "download": -1, "upload": -1}, "rejected"),
            ({"ping": 8, "download": 50, "upload": 9.9}, "rejected"),
            ({"ping": 8, "download": 49, "upload": 10}, "rejected"),
            ({"ping": 8, "download": 50, "upload": 10}, "accepted"),
            ({"ping": 8.5, "download": 1000.0, "upload": 0}, "accepted"),
        ],
    )
    async def test_needs_the_minimum_speeds(self, peer, speeds, status):
        await peer.host(server={"minimum_upload_speed": 10, "minimum_download_speed": 50})
        answer = await peer.ask(await peer.authenticate(), **speeds)
        assert answer["status"] == status
        assert status == "accepted" or answer["timeout"] in SOON

    async def test_may_hold_negative_speeds_where_none_is_asked_for(self, peer):
        await peer.host()
        await peer.join(ping=-1, download=-1, upload=-1)

    async def test_may_hold_keys_that_nobody_knows(self, peer):
        await peer.host()
        await peer.join(device="phone", battery=0.9)

    async def test_must_hold_speeds_that_are_numbers(self, peer):
        await peer.host()
        worker_id = await peer.authenticate()
        reply = await peer.post("cycle-request", worker_id=worker_id, model="m", version="1.0", ping="fast")
        assert reply.status_code == 400
        assert "'ping'" in reply.json()["error"]


class TestSelection:
    async def test_of_many_who_ask_at_once_max_workers_are_taken(self, peer):
        await peer.host(server={"max_workers": 3, "pool_selection": "iterate"})
        workers = [await peer.authenticate() for _ in range(10)]
        answers = await asyncio.gather(*(peer.ask(worker) for worker in workers))
        assert sorted(answer["status"] for answer in answers) == ["accepted"] * 3 + ["rejected"] * 7
        assert len({answer.get("request_key") for answer in answers if "request_key" in answer}) == 3

    async def test_nobody_is_taken_before_min_workers_have_asked(self, peer):
        await peer.host(server={"min_workers": 3})
        first, second, third = [await peer.authenticate() for _ in range(3)]
        for worker in (first, second, first, second):
            answer = await peer.ask(worker)
            assert answer["status"] == "rejected"
            assert answer["timeout"] in SOON
        for worker in (third, first, second):
            assert (await peer.ask(worker))["status"] == "accepted"

    async def test_those_who_asked_long_ago_do_not_count(self, open_grid):
        now = 1000.0
        async with open_grid(clock=lambda: now) as peer:
            await peer.host(server={"min_workers": 2})
            await peer.ask(await peer.authenticate())
            now += 60
            assert (await peer.ask(await peer.authenticate()))["status"] == "rejected"
            assert (await peer.ask(await peer.authenticate()))["status"] == "accepted"

    async def test_lots_are_drawn_when_more_wait_than_places_are_free(self, open_grid):
        lots = iter([0.0, 0.0, 0.0, 0.9, 0.1])
        async with open_grid(draw=lambda: next(lots)) as peer:
            await peer.host(server={"max_workers": 1, "max_diffs": 1})
            worker = await peer.join()
            second, third = [await peer.authenticate() for _ in range(2)]
            assert (await peer.ask(second))["status"] == "rejected"  # full
            assert (await peer.ask(third))["status"] == "rejected"
            await worker.report()
            await peer.until_checkpoint(2)
            assert (await peer.ask(third))["status"] == "rejected"  # two wait for one place, and 0.9 > 1/2
            assert (await peer.ask(second))["status"] == "accepted"

    async def test_a_worker_rests_for_as_many_cycles_as_the_model_says(self, peer):
        await peer.host(server={"max_diffs": 1, "do_not_reuse_workers_until_cycle": 2, "num_cycles": 4})
        worker = await peer.join()
        await worker.report()
        await peer.until_checkpoint(2)
        assert (await peer.ask(worker.worker_id))["status"] == "rejected"
        await (await peer.join()).report()
        await peer.until_checkpoint(3)
        answer = await peer.ask(worker.worker_id)
        assert answer["status"] == "accepted"
        await worker.report(request_key=answer["request_key"])
        await peer.until_checkpoint(4)
        assert await peer.ask(worker.worker_id) == {"status": "rejected"}  # cycle 5 will not be

    async def test_a_worker_rests_from_the_model_that_it_trained_and_from_no_other(self, peer):
        server = {"max_diffs": 1, "do_not_reuse_workers_until_cycle": 9}
        await peer.host("m", server=server)
        worker = await peer.join("m")
        await worker.report()
        await peer.until_checkpoint(2, "m")
        await peer.host("n", server=server)
        assert (await peer.ask(worker.worker_id, "n"))["status"] == "accepted"
        assert (await peer.ask(worker.worker_id, "m"))["status"] == "rejected"

    async def test_a_worker_cannot_escape_its_rest_with_a_new_id_where_its_token_names_it(self, peer):
        server = {
            "max_diffs": 1,
            "do_not_reuse_workers_until_cycle": 9,
            "authentication": {"secret": SECRET},
        }
        await peer.host(server=server)
        ann = await peer.authenticate(auth_token=token(sub="ann"))
        accepted = await peer.ask(ann)
        reply = await peer.post(
            "report",
            worker_id=ann,
            request_key=accepted["request_key"],
            diff=base64_of(diff(1.0)),
        )
        assert reply.status_code == 200
        await peer.until_checkpoint(2)
        again = await peer.authenticate(auth_token=token(sub="ann"))
        assert (await peer.ask(again))["status"] == "rejected"
        bob = await peer.authenticate(auth_token=token(sub="bob"))
        assert (await peer.ask(bob))["status"] == "accepted"


class TestPacing:
    async def test_a_herd_is_told_seconds_over_which_it_is_spread(self, open_grid):
        async with open_grid(retries_per_second=1.0) as peer:
            await peer.host(server={"max_workers": 1, "cycle_length": 3600})
            await peer.join()
            told = [(await peer.ask(await peer.authenticate()))["timeout"] for _ in range(40)]
            assert all(seconds in SOON for seconds in told[:3])
            assert max(told) > 10  # where all forty were told 3, they would come at once
            assert len(set(told)) > 10

    async def test_a_worker_that_asks_again_and_again_makes_no_herd(self, open_grid):
        async with open_grid(retries_per_second=0.1) as peer:
            await peer.host(server={"max_workers": 1, "cycle_length": 3600})
            await peer.join()
            impatient = await peer.authenticate()
            for _ in range(40):
                told = (await peer.ask(impatient))["timeout"]
            assert told <= 13  # where it was forty workers, this would be up to 400

    async def test_of_one_model_does_not_concern_another(self, open_grid):
        async with open_grid(retries_per_second=0.1) as peer:
            for name in ("busy", "calm"):
                await peer.host(name, server={"max_workers": 1, "cycle_length": 3600})
                await peer.join(name)
            for _ in range(20):
                await peer.ask(await peer.authenticate("busy"), "busy")
            assert (await peer.ask(await peer.authenticate("calm"), "calm"))["timeout"] in SOON


class TestLimitsOfOneIdentity:
    async def test_a_worker_takes_part_so_often_in_a_day(self, open_grid):
        now = 1_000_000.0
        async with open_grid(clock=lambda: now) as peer:
            await peer.host(server={"max_diffs": 1, "most_cycles_per_day": 2})
            worker = await peer.join()
            for number in (2, 3):
                assert (await worker.report()).status_code == 200
                await peer.until_checkpoint(number)
                now += 1000
                answer = await peer.ask(worker.worker_id)
                worker = type(worker)(peer, worker.worker_id, answer)
            assert answer["status"] == "rejected"
            assert answer["timeout"] in range(86_400 - 2000, 86_400 - 2000 + 4)
            assert (await peer.ask(await peer.authenticate()))["status"] == "accepted"

    async def test_a_worker_that_takes_places_and_gives_them_back_again_and_again_waits_for_the_next_cycle(
        self, peer
    ):
        await peer.host(server={"max_diffs": 2})
        worker_id = await peer.authenticate()
        for _ in range(10):
            answer = await peer.ask(worker_id)
            keys = {"worker_id": worker_id, "request_key": answer["request_key"]}
            assert (await peer.post("decline", **keys)).status_code == 200
        answer = await peer.ask(worker_id, tell_cycle=True)
        assert answer["status"] == "rejected"
        assert "too often" in answer["reason"]
