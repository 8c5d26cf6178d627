"""Models of which a part is frozen: it is stored and sent once, and not reported."""

import httpx
import numpy as np
import pytest
import torch

from fedplan.grid.records import Phase
from fedplan.grid.store import reports
from fedplan.plan import trace
from fedplan.wire import State, WireTensor
from fedplan.wire.compression import FORMATS, compress
from fedplan.wire.encoding import ZstdReader
from tests.grid.frozen import CHANGING, FROZEN, MODEL, SHAPES, hosted, part, plan, report, whole
from tests.grid.models import averaging_plan, hosting, state
from tests.grid.peers import Peer
from tests.grid.serving.test_server import continued


@pytest.fixture
async def worker(peer):
    await peer.host(**hosted(server={"max_diffs": 1}))
    return await peer.join()


async def get_model(worker, part=None, kept=None):
    keys = {"worker_id": worker.worker_id, "request_key": worker.request_key}
    query = keys | {"model_id": worker.accepted["model_id"]} | ({} if part is None else {"part": part})
    headers = {} if kept is None else {"if-none-match": kept}
    reply = await worker.peer.http.get("/model-centric/get-model", params=query, headers=headers)
    assert reply.status_code in (200, 304), reply.text
    return reply


async def expect_model(peer, changes):
    """The latest checkpoint is the hosted model minus these changes; what is frozen has the same bits."""
    expected = dict(zip(CHANGING, changes, strict=True))
    for place, (new, old) in enumerate(zip(await peer.checkpoint(), MODEL, strict=True)):
        np.testing.assert_array_equal(new, old - np.float32(expected.get(place, 0)))


class TestADownload:
    async def test_is_the_whole_model_for_who_asks_as_ever(self, worker):
        reply = await get_model(worker)
        assert reply.content == state(*MODEL)
        assert int(reply.headers["content-length"]) == len(reply.content)
        retrieved = await worker.peer.http.get("/model-centric/retrieve-model", params={"name": "m"})
        assert retrieved.content == state(*MODEL)

    async def test_is_the_whole_model_when_it_is_too_large_to_be_remembered(self, open_grid):
        async with open_grid(remembered_bytes=0) as peer:
            await peer.host(**hosted(server={"max_diffs": 1}))
            reply = await get_model(await peer.join())
        assert reply.content == state(*MODEL)
        assert int(reply.headers["content-length"]) == len(reply.content)

    @pytest.mark.parametrize(("name", "places"), [("changing", CHANGING), ("frozen", FROZEN)])
    async def test_may_be_a_part_that_says_what_it_holds(self, worker, name, places):
        sent = State.parse((await get_model(worker, name)).content)
        assert sent.places == places
        for tensor, place in zip(sent.tensors, places, strict=True):
            np.testing.assert_array_equal(tensor.array, MODEL[place])

    async def test_of_what_is_frozen_is_needed_once(self, worker):
        first = {name: (await get_model(worker, name)).headers["etag"] for name in ("changing", "frozen")}
        first["whole"] = (await get_model(worker)).headers["etag"]
        assert len(set(first.values())) == 3
        await report(worker, part([1, 2]))
        await worker.peer.until_checkpoint(2)
        later = await worker.peer.join()
        again = await get_model(later, "frozen", kept=first["frozen"])
        assert (again.status_code, again.content) == (304, b"")
        for name, tag in {"changing": first["changing"], None: first["whole"]}.items():
            changed = await get_model(later, name, kept=tag)
            assert changed.status_code == 200
        await expect_model(worker.peer, [1, 2])

    async def test_of_a_model_that_changes_as_a_whole_is_the_whole_one(self, peer):
        await peer.host()
        worker = await peer.join()
        both = await get_model(worker), await get_model(worker, "changing")
        assert both[0].content == both[1].content
        assert both[0].headers["etag"] == both[1].headers["etag"]
        assert State.parse(both[0].content).places is None
        reply = await worker.get("get-model", model_id=worker.accepted["model_id"], part="frozen")
        assert reply.status_code == 404
        assert reply.json() == {"error": "no tensor of the model is frozen"}

    @pytest.mark.parametrize("name", ["", "all", "Frozen"])
    async def test_of_a_part_that_there_is_not_is_refused(self, worker, name):
        reply = await worker.get("get-model", model_id=worker.accepted["model_id"], part=name)
        assert reply.status_code == 400
        assert reply.json() == {"error": "missing or wrong in the query: part"}

    @pytest.mark.parametrize("name", ["changing", "frozen"])
    async def test_of_a_part_needs_a_key_too(self, worker, name):
        query = {"model_id": worker.accepted["model_id"], "part": name, "request_key": "x"}
        assert (await worker.get("get-model", **query)).status_code == 403

    async def test_may_be_compressed_in_each_form(self, http):
        peer = Peer(http)
        model = [np.zeros((40, 30)), [1, 2], *MODEL[2:4], [1, 2, 3, 4]]
        await peer.host("sparse", **hosted(model=state(*model)))
        worker = await peer.join("sparse")
        for name in (None, "frozen"):
            plain, packed = [await self.form(worker, name, accept) for accept in ("identity", "zstd")]
            assert packed.headers["content-encoding"] == "zstd"
            assert int(packed.headers["content-length"]) < len(plain.content) / 2
            assert packed.headers["etag"] != plain.headers["etag"]
            assert b"".join(ZstdReader().pieces(packed.content)) == plain.content

    async def form(self, worker, name, accept) -> httpx.Response:
        keys = {"worker_id": worker.worker_id, "request_key": worker.request_key}
        query = keys | {"model_id": worker.accepted["model_id"]} | ({"part": name} if name else {})
        headers = {"accept-encoding": accept}
        return await worker.peer.http.get("/model-centric/get-model", params=query, headers=headers)


def padded(data, size):
    message = State.parse(data).message
    message.placeholders[0].description = "x" * size
    return message.encode()


def without_tensors(data):
    message = State.parse(data).message
    message.tensors = []
    return message.encode()


class TestAReport:
    async def test_of_the_whole_and_one_of_what_changes_average_exactly(self, peer):
        await peer.host(**hosted(server={"max_diffs": 4}))
        workers = [await peer.join() for _ in range(4)]
        for worker, data in zip(
            workers, [whole([1, 2]), part([2, 4]), part([4, 8], CHANGING), whole([5, 2])], strict=True
        ):
            assert (await report(worker, data)).json() == {"status": "success"}
        await peer.until_checkpoint(2)
        await expect_model(peer, [3, 4])

    async def test_as_bytes_may_be_of_what_changes_too(self, worker):
        keys = {"worker_id": worker.worker_id, "request_key": worker.request_key}
        reply = await worker.peer.http.post(
            "/model-centric/report",
            params=keys,
            content=part([1, 2]),
            headers={"content-type": "application/octet-stream"},
        )
        assert reply.json() == {"status": "success"}
        await worker.peer.until_checkpoint(2)
        await expect_model(worker.peer, [1, 2])

    async def test_may_say_that_it_holds_everything(self, worker):
        data = State.parse(whole([1, 2])).part(range(len(SHAPES))).serialize()
        assert (await report(worker, data)).status_code == 200
        await worker.peer.until_checkpoint(2)
        await expect_model(worker.peer, [1, 2])

    @pytest.mark.parametrize("format", FORMATS)
    @pytest.mark.parametrize("places", [None, CHANGING], ids=["whole", "part"])
    async def test_may_be_in_fewer_bytes(self, peer, places, format):
        await peer.host(**hosted(server={"max_diffs": 1, "report_formats": list(FORMATS)}))
        data = State.parse(whole([1, 2]) if places is None else part([1, 2]))
        sent = compress(data.tensors, format, 1.0, places)
        assert (await report(await peer.join(), sent.serialize())).status_code == 200
        await peer.until_checkpoint(2)
        await expect_model(peer, [1, 2])

    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (
                part([1], (1,)),
                "the diff holds these tensors of the model: 1. A report holds all 5, or exactly",
            ),
            (
                part([1, 2], (0, 1)),
                "these tensors of the model: 0, 1. A report holds all 5, or exactly the 2 ",
            ),
            (part([1, 0, 2], (1, 2, 4)), "1, 2, 4. A report holds all 5, or exactly the 2 that change: 1, 4"),
            (part([0, 0, 0], FROZEN), "0, 2, 3. A report holds all 5"),
            (state(np.ones(2), np.ones(4)), "it holds 2 tensors, the model 5"),
            (without_tensors(part([1, 2])), "the State holds a part of a model; each of its 0 tensors needs"),
            (padded(part([1, 2]), 80_000), "far larger than one of this model can be"),
            (whole([1, np.nan]), "tensor 4 holds NaN or an infinite value"),
            (part([1, np.inf]), "tensor 1 holds NaN or an infinite value"),
            (
                state(*(np.ones(shape) for shape in SHAPES)),
                "changes tensor 0, which is frozen in the model's",
            ),
            (state(*(np.full(s, p == 3) for p, s in enumerate(SHAPES))), "changes tensor 3, which is frozen"),
        ],
        ids=lambda value: None if isinstance(value, bytes) else str(value)[:20],
    )
    async def test_that_does_not_fit_is_refused_and_a_good_one_taken_afterwards(self, worker, data, why):
        reply = await report(worker, data)
        assert reply.status_code == 400
        assert why in reply.json()["error"]
        assert (await report(worker, part([1, 2]))).status_code == 200
        await worker.peer.until_checkpoint(2)
        await expect_model(worker.peer, [1, 2])

    async def test_of_a_part_is_refused_where_everything_may_change(self, peer):
        await peer.host()
        data = State.of([WireTensor(np.zeros(2, np.float32), "float32")], (1,)).serialize()
        reply = await report(await peer.join(), data)
        assert reply.status_code == 400
        assert reply.json()["error"] == "the diff holds these tensors of the model: 1. A report holds all 2"

    async def test_after_which_the_model_could_not_exist_is_refused(self, peer):
        greatest = np.finfo(np.float32).max
        model = [*MODEL[:4], np.full(4, greatest)]
        await peer.host(**hosted(model=state(*model)))
        worker = await peer.join()
        reply = await report(worker, part([0, -greatest]))
        assert reply.status_code == 400
        assert "does not fit the model" in reply.json()["error"]
        assert (await report(worker, part([0, greatest]))).status_code == 200


class TestWhatIsStored:
    async def test_of_a_report_is_what_changes(self, peer):
        await peer.host(**hosted(server={"max_diffs": 3}))
        for data in (whole([1, 2]), part([1, 2])):
            await report(await peer.join(), data)
        grid = peer.app.state.grid
        async with grid.store.reading() as db:
            stored = [await grid.blobs.get(report.blob) for report in await reports.of_cycle(db, 1)]
        assert stored == [part([1, 2])] * 2

    async def test_of_a_checkpoint_is_what_changes_and_the_rest_is_stored_once(self, peer, tmp_path):
        await peer.host(**hosted(server={"max_diffs": 1}))
        for number in (2, 3, 4):
            await report(await peer.join(), part([1, 2]))
            await peer.until_checkpoint(number)
        sizes = sorted(path.stat().st_size for path in tmp_path.glob("blobs/models/*"))
        assert sizes[:4] == [len(part([1, 2]))] * 4
        assert len(sizes) == 5
        np.testing.assert_allclose((await peer.checkpoint(checkpoint="3"))[4], MODEL[4] - 4, rtol=1e-6)
        np.testing.assert_array_equal((await peer.checkpoint(checkpoint="1"))[4], MODEL[4])

    async def test_is_gone_on_with_after_a_restart(self, open_grid):
        async with open_grid() as peer:
            await peer.host(**hosted(server={"max_diffs": 3}))
            workers = [await peer.join() for _ in range(3)]
            frozen = (await get_model(workers[0], "frozen")).headers["etag"]
            await report(workers[0], whole([1, 2]))
            await report(workers[1], part([2, 4]))
        async with open_grid(sums_bytes=0) as peer:  # the diffs are read again
            last = continued(peer, workers[2])
            assert (await get_model(last, "frozen", kept=frozen)).status_code == 304
            assert (await report(last, part([6, 6]))).status_code == 200
            await peer.until_checkpoint(2)
            await expect_model(peer, [3, 4])


class TestAnAveragingPlan:
    async def test_gets_all_tensors_and_zeros_for_what_is_frozen(self, peer):
        averaging = averaging_plan(
            lambda *t: tuple(a + b for a, b in zip(t[:5], t[5:], strict=True)), 10, SHAPES
        )
        await peer.host(**hosted(averaging_plan=averaging, server={}))
        for data in (whole([1, 2]), part([2, 4])):
            assert (await report(await peer.join(), data)).status_code == 200
        await peer.until_checkpoint(2)
        await expect_model(peer, [3, 6])

    async def test_that_changes_what_is_frozen_fails_the_cycle(self, peer):
        averaging = averaging_plan(lambda *t: (*t[:3], t[3] + 1, t[4]), 5, SHAPES)
        await peer.host(**hosted(averaging_plan=averaging, server={}))
        await report(await peer.join(), part([1, 2]))
        model = await peer.until(lambda model: model["cycle"]["number"] == 2)
        assert model["cycle"]["phase"] == Phase.OPEN
        assert model["last_failure"] == (
            "the average changes tensor 3 of the model, which is frozen in the workers' Plans"
        )
        await expect_model(peer, [0, 0])


class TestHosting:
    async def test_a_plan_that_changes_what_it_says_to_be_frozen_is_refused(self, peer):
        reply = await peer.post("host-training", **message_of(plan(1)))
        assert reply.status_code == 400
        assert (
            "says that tensor 1 of the model ('modelParam 1') is frozen, and changes it"
            in reply.json()["error"]
        )

    async def test_all_tensors_change_beside_a_plan_that_says_no_roles(self, peer):
        other = trace(lambda x: x * 2, torch.zeros(3))
        plans = {"training_plan": plan(*FROZEN).hex(), "other": other.serialize().hex()}
        await peer.host(**hosted(plans=plans))
        assert State.parse((await get_model(await peer.join(), "changing")).content).places is None

    async def test_a_part_of_a_model_is_no_model(self, peer):
        reply = await peer.post("host-training", **message_of(plan(*FROZEN), model=part([1, 2])))
        assert reply.status_code == 400
        assert reply.json()["error"] == "the model cannot be hosted: the State holds only a part of a model"


def message_of(data, **changes):
    return hosting(**hosted(plans={"training_plan": data.hex()}, **changes))
