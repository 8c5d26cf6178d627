"""What a grid refuses of workers in a secure round, and what may come again."""

import base64
import contextlib
import dataclasses
import re
import threading

from fedplan.federation.secure import SecureWorker, roster
from fedplan.federation.secure.cycles import cycle_name
from tests.grid.models import diff, hosting

SECURE = {"max_weight": 10.0, "secure_aggregation": {"workers": 3, "clip": 1.0}}
SAYS = {"secure_aggregation": True, "tell_cycle": True, "summary": True}


async def entered(peer, count=3):
    await peer.host(server=SECURE)
    return [await peer.join(**SAYS) for _ in range(count)]


def keys():
    return SecureWorker(cycle_name("m", "1.0", 1)).keys


async def sent(worker, stage, message):
    return await worker.peer.post(
        "secure-send",
        worker_id=worker.worker_id,
        request_key=worker.request_key,
        stage=stage,
        message=base64.b64encode(message).decode(),
    )


async def asked(worker, stage):
    answer = await worker.peer.post(
        "secure-receive", worker_id=worker.worker_id, request_key=worker.request_key, stage=stage
    )
    return answer.json()


async def test_a_worker_is_told_the_protocol_and_others_are_not_taken(peer):
    (worker,) = await entered(peer, 1)
    assert "secure_aggregation" in worker.accepted["protocols"]
    refused = await peer.ask(await peer.authenticate())
    assert refused == {"status": "rejected"}
    (withheld,) = [w for w in (await peer.status())["withheld"] if w["client"] == "syft.js"]
    assert "reports are added up by secure aggregation" in " ".join(withheld["why"])


async def test_the_same_message_is_a_success_again_and_another_one_is_refused(peer):
    worker, *_ = await entered(peer)
    message = keys()
    for _ in range(2):
        assert (await sent(worker, "keys", message)).status_code == 200
    refused = await sent(worker, "keys", keys())
    assert (refused.status_code, "something else at this stage" in refused.text) == (400, True)


async def test_a_message_as_bytes_is_the_same(peer):
    worker, *_ = await entered(peer)
    message = keys()
    query = {"worker_id": worker.worker_id, "request_key": worker.request_key, "stage": "keys"}
    answer = await peer.http.post(
        "/model-centric/secure-send",
        params=query,
        content=message,
        headers={"content-type": "application/octet-stream"},
    )
    assert answer.status_code == 200
    assert (await sent(worker, "keys", message)).status_code == 200


async def test_keys_that_are_none_or_another_workers_are_refused(peer):
    one, other, _ = await entered(peer)
    message = keys()
    assert (await sent(one, "keys", b"none")).status_code == 400
    assert (await sent(one, "keys", message)).status_code == 200
    refused = await sent(other, "keys", message)
    assert (refused.status_code, "the same key or identity" in refused.text) == (400, True)


async def test_what_belongs_to_another_stage_is_refused(peer):
    worker, *_ = await entered(peer)
    for stage in ("shares", "reports", "unmasking"):
        refused = await sent(worker, stage, b"x")
        assert refused.status_code == 409
        assert re.search(r"it is at its stage '(gather|keys)'", refused.text)


async def test_a_masked_report_waits_for_its_turn_and_its_refusal_is_counted_as_others_are(peer, monkeypatch):
    worker, *_ = await entered(peer)
    grid = peer.app.state.grid
    refusals = grid.metrics.reports.labels("refused")._value.get
    assert (await sent(worker, "reports", b"x")).status_code == 409
    assert refusals() == 1
    monkeypatch.setattr("fedplan.grid.service.receiving.PATIENCE", 0.05)
    async with contextlib.AsyncExitStack() as taken:
        while not grid.reporting.locked():
            await taken.enter_async_context(grid.reporting)
        assert (await sent(worker, "reports", b"x")).status_code == 503
        assert (await sent(worker, "keys", keys())).status_code == 200
    assert refusals() == 2


async def test_a_request_key_opens_only_its_workers_place(peer):
    one, other, _ = await entered(peer)
    answer = await peer.post(
        "secure-receive", worker_id=one.worker_id, request_key=other.request_key, stage="keys"
    )
    assert answer.status_code == 403


async def test_who_waits_is_told_when_to_ask_again_and_then_gets_the_announcement(peer):
    workers = await entered(peer)
    for worker in workers[:2]:
        await sent(worker, "keys", keys())
    assert (await asked(workers[0], "keys"))["retry_after"] > 0
    await sent(workers[2], "keys", keys())
    await peer.until(lambda model: model["cycle"]["needed"] == 3)
    for _ in range(500):
        answer = await asked(workers[0], "keys")
        if "message" in answer:
            break
    assert answer == await asked(workers[1], "keys") == await asked(workers[2], "keys")


async def test_a_place_that_is_given_back_before_the_round_begins_is_free_for_another(peer):
    one, *_ = await entered(peer, 2)
    await sent(one, "keys", keys())
    await peer.post("decline", worker_id=one.worker_id, request_key=one.request_key)
    assert (await peer.status())["cycle"]["accepted"] == 1
    assert (await sent(one, "keys", keys())).status_code == 409


async def test_a_bare_report_is_refused_and_leaves_nothing_behind(peer):
    worker, *_ = await entered(peer)
    refused = await worker.report(1.0)
    assert (refused.status_code, "not under masks" in refused.text) == (400, True)
    blobs = [path for path in peer.app.state.grid.settings.data_dir.rglob("*") if path.is_file()]
    assert all(diff(1.0) not in path.read_bytes() for path in blobs)


async def test_a_model_without_secure_aggregation_takes_no_such_messages(peer):
    await peer.host()
    worker = await peer.join()
    assert (await sent(worker, "keys", keys())).status_code == 400
    answer = await asked(worker, "keys")
    assert "nothing is sent" in answer["error"]


async def test_a_protocol_cannot_be_hosted_under_the_grids_own_name(peer):
    reply = await peer.post("host-training", **hosting(protocols={"secure_aggregation": ""}))
    assert (reply.status_code, "this grid's own protocol" in reply.text) == (400, True)


async def test_an_evaluation_by_itself_is_refused(peer):
    await entered(peer, 1)
    reply = await peer.post("evaluate", name="m", version="1.0")
    assert reply.status_code == 400


async def test_keys_of_those_who_came_before_are_not_computed_with_again(peer, monkeypatch):
    workers, usable = await entered(peer, 2), roster.check_usable
    checked = []

    def counting(raw):
        checked.append(threading.current_thread())
        usable(raw)

    monkeypatch.setattr(roster, "check_usable", counting)
    for worker in workers:
        assert (await sent(worker, "keys", keys())).status_code == 200
    assert len(checked) == 4  # two keys of each worker, each once
    assert threading.main_thread() not in checked


async def test_each_of_a_workers_keys_must_differ_from_those_of_the_others(peer):
    one, other, _ = await entered(peer)
    mine, new = (roster.RosterMember.parse(keys()) for _ in range(2))
    assert (await sent(one, "keys", mine.serialize())).status_code == 200
    for same in ("mask_key", "share_key"):
        made = dataclasses.replace(new, **{same: getattr(mine, same)})
        refused = await sent(other, "keys", made.serialize())
        assert (refused.status_code, "the same key or identity" in refused.text) == (400, True)
    assert (await sent(other, "keys", new.serialize())).status_code == 200
