"""Reports. Every refusal is followed by the cycle's completion: nobody can harm it."""

import asyncio
import base64

import numpy as np
import pytest

from fedplan.errors import DiffRefusedError
from fedplan.grid.service.examining import read_diff
from fedplan.wire import State, schema
from fedplan.wire.compression import FORMATS, compress
from tests.grid.averaging.test_tally import counted
from tests.grid.models import MODEL, base64_of, diff, hosting, state

LAYOUT = (((3, 2), "float32"), ((2,), "float32"))


async def expect_completion(peer, *workers):
    """The workers report 1, 2, …; the cycle closes with just these diffs."""
    before = (await peer.status())["checkpoints"][0]["number"]
    old = await peer.checkpoint()
    for value, worker in enumerate(workers, start=1):
        reply = await worker.report(value)
        assert reply.status_code == 200, reply.text
        assert reply.json() == {"status": "success"}
    await peer.until_checkpoint(before + 1)
    average = (len(workers) + 1) / 2
    for new, original in zip(await peer.checkpoint(), old, strict=True):
        np.testing.assert_allclose(new, original - average, atol=1e-6)


async def test_a_report_is_acknowledged_and_changes_the_model(peer):
    await peer.host(server={"max_diffs": 2})
    await expect_completion(peer, await peer.join(), await peer.join())


async def test_white_space_in_base64_is_no_fault(peer):
    await peer.host()
    worker = await peer.join()
    text = base64.encodebytes(diff(1.0)).decode()
    assert "\n" in text
    assert (await worker.report(diff=" " + text.replace("\n", "\r\n"))).status_code == 200
    await peer.until_checkpoint(2)


def broken_states():
    """Diffs that are no good, each with what the worker is told."""
    pickle = schema.State.decode(diff(1.0))
    pickle.tensors[0].torch_tensor.contents_data = None
    pickle.tensors[0].torch_tensor.contents_bin = b"\x80\x04."
    lying = schema.State.decode(diff(1.0))
    lying.tensors[1].torch_tensor.contents_data.shape.dims = [2_000_000_000]
    nan, inf = np.zeros((3, 2)), np.zeros(2)
    nan[1, 1], inf[0] = np.nan, np.inf
    return {
        "not a State": (b"\xff\xff\xff", "cannot be read"),
        "nothing": (b"", "it holds 0 tensors, the model 2"),
        "a tensor too few": (state(np.zeros((3, 2))), "it holds 1 tensors, the model 2"),
        "a tensor too many": (state(np.zeros((3, 2)), [0, 0], [0]), "it holds 3 tensors, the model 2"),
        "another order": (
            state([0, 0], np.zeros((3, 2))),
            "tensor 0 has the shape [2], the model's has [3, 2]",
        ),
        "a transposed tensor": (state(np.zeros((2, 3)), [0, 0]), "tensor 0 has the shape [2, 3]"),
        "another dtype": (diff(0, dtype="float64"), "tensor 0 is of float64, the model's of float32"),
        "integers": (diff(0, dtype="int32"), "tensor 0 is of int32, the model's of float32"),
        "NaN": (state(nan, [0, 0]), "tensor 0 holds NaN or an infinite value"),
        "infinity": (state(np.zeros((3, 2)), inf), "tensor 1 holds NaN or an infinite value"),
        "a pickle": (pickle.encode(), "contents_bin"),
        "a false size": (lying.encode(), "tensor 1 of the State"),
        "half a State": (diff(1.0)[:-5], "cannot be read"),
    }


@pytest.mark.parametrize("case", broken_states())
async def test_a_diff_that_is_no_good_is_refused_and_a_good_one_is_taken_afterwards(peer, case):
    data, message = broken_states()[case]
    await peer.host(server={"max_diffs": 2})
    worker, other = await peer.join(), await peer.join()
    reply = await worker.report(diff=base64_of(data))
    assert reply.status_code == 400
    assert set(reply.json()) == {"error"}
    assert message in reply.json()["error"]
    assert (await peer.status())["cycle"]["reported"] == 0
    await expect_completion(peer, worker, other)


async def test_what_is_not_base64_is_refused(peer):
    await peer.host()
    worker = await peer.join()
    for text in ("!!!!", "abc", "äöü", "\u0000", "YWJj-_==", "data:;base64,YWJj", "YQ==YQ=="):
        reply = await worker.report(diff=text)
        assert reply.status_code == 400
        assert reply.json() == {"error": "the diff is not base64"}
    await expect_completion(peer, worker)


async def test_a_report_after_the_cycle_is_refused_and_the_next_cycle_is_not_harmed(peer):
    await peer.host(server={"max_diffs": 1})
    late, worker = await peer.join(), await peer.join()
    await worker.report(1)
    await peer.until_checkpoint(2)
    reply = await late.report(100)
    assert reply.status_code == 409
    assert "its cycle is over" in reply.json()["error"]
    await expect_completion(peer, await peer.join())


async def test_of_more_reports_than_max_diffs_at_once_the_first_count(peer):
    await peer.host(server={"max_diffs": 3, "num_cycles": 1})
    workers = [await peer.join() for _ in range(8)]
    replies = await asyncio.gather(*(worker.report(1) for worker in workers))
    assert sorted(reply.status_code for reply in replies) == [200] * 3 + [409] * 5
    model = await peer.until(lambda model: model["phase"] == "finished")
    assert model["cycle"]["reported"] == 3


async def test_a_report_with_another_workers_key_is_refused(peer):
    await peer.host(server={"max_diffs": 2})
    worker, other = await peer.join(), await peer.join()
    outsider = await peer.authenticate()
    for thief in (other.worker_id, outsider, "", "x"):
        reply = await worker.report(100, worker_id=thief)
        assert reply.status_code == 403
        assert "was not given to this worker_id" in reply.json()["error"]
    await expect_completion(peer, worker, other)


async def test_a_report_with_a_key_that_does_not_exist_is_refused(peer):
    await peer.host()
    worker = await peer.join()
    reply = await worker.report(100, request_key="x")
    assert reply.status_code == 403
    await expect_completion(peer, worker)


@pytest.mark.parametrize("key", ["worker_id", "request_key", "diff"])
async def test_a_report_that_lacks_something_is_refused(peer, key):
    await peer.host()
    worker = await peer.join()
    message = {"worker_id": worker.worker_id, "request_key": worker.request_key, "diff": "x"}
    del message[key]
    reply = await peer.post("report", **message)
    assert reply.status_code == 400
    assert f"'{key}'" in reply.json()["error"]
    await expect_completion(peer, worker)


async def test_neither_keys_nor_diffs_are_logged(peer, caplog):
    caplog.set_level("DEBUG")
    await peer.host(server={"max_diffs": 1})
    worker = await peer.join()
    await worker.report(1)
    await worker.report(2)
    await peer.until_checkpoint(2)
    assert "a report was refused" in caplog.text
    for secret in (worker.request_key, base64_of(diff(1))):
        assert all(secret not in message for message in caplog.messages)


def test_a_diff_is_read_from_base64():
    data, tensors, *_ = read_diff(base64_of(diff(1)), LAYOUT)
    assert data == diff(1)
    assert [tensor.shape for tensor in tensors] == [(3, 2), (2,)]
    with pytest.raises(DiffRefusedError):
        read_diff("", LAYOUT)


async def test_a_diff_that_is_made_to_be_slow_to_read_is_refused(peer):
    await peer.host()
    worker = await peer.join()
    made = schema.State.decode(diff(1))
    made.placeholders[0].tags = [""] * 5000
    reply = await worker.report(diff=base64_of(made.encode()))
    assert reply.status_code == 400
    assert "holds more than 2400 values" in reply.json()["error"]
    await expect_completion(peer, worker)


async def test_a_large_diff_is_checked_in_a_thread_and_counts_like_a_small_one(peer, monkeypatch):
    monkeypatch.setattr("fedplan.grid.service.reporting._QUICK_BYTES", 0)
    await peer.host(server={"max_diffs": 2})
    worker, other = await peer.join(), await peer.join()
    assert (await worker.report(diff="x")).status_code == 400
    await expect_completion(peer, worker, other)


async def test_more_reports_than_can_be_taken_are_told_to_come_again(peer, monkeypatch):
    monkeypatch.setattr("fedplan.grid.service.receiving.PATIENCE", 0.05)
    await peer.host()
    worker = await peer.join()
    places, taken = peer.app.state.grid.reporting, 0
    while not places.locked():
        await places.acquire()
        taken += 1
    reply = await worker.report(1)
    assert (reply.status_code, "retry-after" in reply.headers) == (503, True)
    for _ in range(taken):
        places.release()
    await expect_completion(peer, worker)


class TestAReportThatComesAgain:
    """Its answer may have been lost: it is taken, and counted once."""

    async def test_is_taken_in_either_form_also_when_its_cycle_is_over(self, peer):
        await peer.host(server={"max_diffs": 2})
        worker = await peer.join()
        assert (await worker.report(1)).status_code == 200
        assert (await worker.report(1)).json() == {"status": "success"}
        assert (await TestAReportOfBytes().send(worker, diff(1))).status_code == 200
        assert (await peer.status())["cycle"]["reported"] == 1
        await (await peer.join()).report(3)
        await peer.until_checkpoint(2)
        assert (await worker.report(1)).status_code == 200
        np.testing.assert_allclose((await peer.checkpoint())[1], MODEL[1] - 2)

    async def test_is_refused_when_it_is_another_one(self, peer):
        await peer.host(server={"max_diffs": 2})
        worker = await peer.join()
        await worker.report(1)
        reply = await worker.report(100)
        assert reply.status_code == 409
        assert "has reported in this cycle already" in reply.json()["error"]
        assert (await worker.report(diff="?")).status_code == 400
        await (await peer.join()).report(3)
        await peer.until_checkpoint(2)
        np.testing.assert_allclose((await peer.checkpoint())[1], MODEL[1] - 2, atol=1e-6)

    async def test_many_times_at_once_is_counted_once(self, peer):
        await peer.host(server={"max_diffs": 2})
        worker = await peer.join()
        replies = await asyncio.gather(*(worker.report(1) for _ in range(20)))
        assert {reply.status_code for reply in replies} == {200}
        assert (await peer.status())["cycle"]["reported"] == 1
        await (await peer.join()).report(2)
        await peer.until_checkpoint(2)
        np.testing.assert_allclose((await peer.checkpoint())[1], MODEL[1] - 1.5, atol=1e-6)


class TestAReportOfBytes:
    """What this project's worker sends: the diff itself as the body, the keys in the query."""

    async def send(self, worker, body, kind="application/octet-stream", **changes):
        keys = {"worker_id": worker.worker_id, "request_key": worker.request_key} | changes
        keys = {key: value for key, value in keys.items() if value is not None}
        return await worker.peer.http.post(
            "/model-centric/report", params=keys, content=body, headers={"content-type": kind}
        )

    async def test_is_acknowledged_is_on_disk_and_changes_the_model(self, peer, tmp_path):
        await peer.host(server={"max_diffs": 2})
        worker = await peer.join()
        reply = await self.send(worker, diff(1))
        assert (reply.status_code, reply.json()) == (200, {"status": "success"})
        (written,) = tmp_path.glob("blobs/diffs/*/1/*")
        assert written.read_bytes().startswith(diff(1))
        await (await peer.join()).report(3)
        await peer.until_checkpoint(2)
        np.testing.assert_allclose((await peer.checkpoint())[1], MODEL[1] - 2)

    @pytest.mark.parametrize(
        "case", ["NaN", "half a State"]
    )  # what else there is, is known of the other form
    async def test_is_refused_when_it_is_no_good(self, peer, case):
        data, message = broken_states()[case]
        await peer.host()
        worker = await peer.join()
        reply = await self.send(worker, data)
        assert reply.status_code == 400
        assert message in reply.json()["error"]
        assert (await self.send(worker, diff(1))).status_code == 200

    async def test_is_told_apart_from_one_that_the_grid_does_not_understand(self, peer):
        await peer.host(server={"max_diffs": 2})
        worker = await peer.join()
        for status, changes in (
            (403, {"request_key": "x"}),
            (400, {"request_key": None}),
            (400, {"worker_id": "x" * 2000}),
            (200, {}),
            (200, {}),
        ):
            reply = await self.send(worker, diff(1), **changes)
            assert reply.status_code == status
            assert "application/octet-stream" in reply.headers["accept-post"]
        for status, sent in ((200, diff(1)), (409, diff(2))):
            reply = await self.send(worker, sent)
            assert reply.status_code == status
            assert "application/octet-stream" in reply.headers["accept-post"]

    async def test_counts_against_the_same_limits(self, open_grid):
        async with open_grid(max_message_bytes=10_000) as peer:
            await peer.host()
            worker = await peer.join()
            assert (await self.send(worker, bytes(20_000))).status_code == 413
            assert (await self.send(worker, diff(1) + bytes(9_000))).status_code == 400

    async def test_changes_nothing_for_other_clients(self, peer):
        await peer.host()
        worker = await peer.join()
        reply = await worker.report(1)
        assert reply.status_code == 200
        assert "accept-post" not in reply.headers


def compressed(value: float, format: str) -> bytes:
    """A diff in a smaller form, in which this one arrives exactly."""
    return compress(State.parse(diff(value)).tensors, format, fraction=1.0).serialize()


class TestSmallerForms:
    @pytest.mark.parametrize("format", FORMATS)
    async def test_are_taken_by_a_model_that_says_so_and_mixed_with_float32(self, peer, format):
        await peer.host(server={"max_diffs": 2, "report_formats": ["topk", "float16", "int8"]})
        small, plain = await peer.join(), await peer.join()
        assert (await small.report(diff=base64_of(compressed(2.0, format)))).status_code == 200
        assert (await plain.report(4.0)).status_code == 200
        await peer.until_checkpoint(2)
        for new, original in zip(await peer.checkpoint(), MODEL, strict=True):
            np.testing.assert_allclose(new, original - 3.0, atol=1e-6)

    @pytest.mark.parametrize("format", FORMATS)
    async def test_that_came_before_a_restart_count_as_they_should(self, open_grid, format):
        async with open_grid() as peer:
            await peer.host(server={"max_diffs": 2, "report_formats": [format]})
            small, plain = await peer.join(), await peer.join()
            assert (await small.report(diff=base64_of(compressed(2.0, format)))).status_code == 200
        async with open_grid() as peer:
            await counted(peer, 1)  # what was reported is added up again
            plain.peer = peer
            assert (await plain.report(4.0)).status_code == 200
            await peer.until_checkpoint(2)
            for new, original in zip(await peer.checkpoint(), MODEL, strict=True):
                np.testing.assert_allclose(new, original - 3.0, atol=1e-6)

    @pytest.mark.parametrize("format", FORMATS)
    async def test_are_refused_by_a_model_that_does_not_take_them(self, peer, format):
        await peer.host()
        worker = await peer.join()
        reply = await worker.report(diff=base64_of(compressed(1.0, format)))
        assert reply.status_code == 400
        assert f"it is sent as {format}, which this model does not take" in reply.json()["error"]
        await expect_completion(peer, worker)

    async def test_cannot_stand_for_another_shape(self, peer):
        await peer.host(server={"max_diffs": 1, "report_formats": ["topk"]})
        worker = await peer.join()
        huge = schema.State.decode(compressed(1.0, "topk"))
        huge.tensors[0].torch_tensor.contents_data.shape.dims = [2**31 - 1]
        reply = await worker.report(diff=base64_of(huge.encode()))
        assert reply.status_code == 400
        assert "the model's has [3, 2]" in reply.json()["error"]
        await expect_completion(peer, worker)

    async def test_are_told_to_workers_in_the_client_config(self, peer):
        await peer.host(server={"report_formats": ["int8", "topk"]})
        worker = await peer.join()
        assert worker.accepted["client_config"]["report_formats"] == ["int8", "topk"]

    async def test_are_nothing_that_other_models_workers_hear_of(self, peer):
        await peer.host()
        assert "report_formats" not in (await peer.join()).accepted["client_config"]

    async def test_that_do_not_exist_are_refused_at_hosting(self, peer):
        reply = await peer.post("host-training", **hosting(server={"report_formats": ["int4"]}))
        assert reply.status_code == 400
        assert "report_formats" in reply.json()["error"]
