import asyncio
import re

import pytest

from fedplan.grid.observing.metrics import Metrics


async def test_a_grid_that_is_well_says_so(peer):
    reply = await peer.http.get("/healthz")
    assert reply.status_code == 200
    assert reply.json() == {"status": "ok"}


async def value(peer, sample):
    text = (await peer.http.get("/metrics")).text
    found = re.search(rf"^{re.escape(sample)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else None


async def test_requests_reports_and_cycles_are_counted(peer):
    await peer.host()
    worker = await peer.join()
    await worker.report(diff="x")
    await worker.report(1)
    await peer.until_checkpoint(2)
    prefix = 'fedplan_requests_total{call="model-centric/report",outcome='
    assert await value(peer, f'{prefix}"200",transport="http"}}') == 1
    assert await value(peer, f'{prefix}"400",transport="http"}}') == 1
    assert await value(peer, 'fedplan_reports_total{outcome="accepted"}') == 1
    assert await value(peer, 'fedplan_reports_total{outcome="refused"}') == 1
    async with asyncio.timeout(5):  # counted once it is committed, when others may see it already
        while await value(peer, 'fedplan_cycles_total{outcome="done"}') != 1:
            await asyncio.sleep(0.01)
    assert await value(peer, "fedplan_closing_seconds_count") == 1


async def test_each_model_has_gauges(peer):
    await peer.host("a model", server={"max_diffs": 1, "num_cycles": 1})
    await peer.host("open", server={"max_diffs": 3, "metrics": ["update_norm"]})
    await (await peer.join("a model")).report(1)
    workers = [await peer.join("open") for _ in range(3)]
    await peer.until_checkpoint(2, "a model")
    await workers[0].report(1)
    for name, cycle, checkpoint, joined, reports, finished in (
        ("a model", 1, 2, 1, 1, 1),
        ("open", 1, 1, 3, 1, 0),
    ):
        labels = f'{{model="{name}",version="1.0"}}'
        assert await value(peer, f"fedplan_model_cycle{labels}") == cycle
        assert await value(peer, f"fedplan_model_checkpoint{labels}") == checkpoint
        assert await value(peer, f"fedplan_model_cycle_workers{labels}") == joined
        assert await value(peer, f"fedplan_model_cycle_reports{labels}") == reports
        assert await value(peer, f"fedplan_model_finished{labels}") == finished
    for worker in workers[1:]:
        await worker.report(1)
    await peer.until_checkpoint(2, "open")
    norm = await value(peer, 'fedplan_model_metric{metric="update_norm",model="open",version="1.0"}')
    assert norm == pytest.approx(8**0.5)


async def test_gauges_are_for_the_owner(open_grid):
    async with open_grid(owner_token="secret") as peer:
        assert "fedplan_model" not in (await peer.http.get("/metrics")).text
        wrong = await peer.http.get("/metrics", headers={"authorization": "Bearer wrong"})
        assert wrong.status_code == 401  # a scraper whose token has expired must not look well
        peer.http.headers["authorization"] = "Bearer secret"
        await peer.host()
        assert await value(peer, 'fedplan_model_cycle{model="m",version="1.0"}') == 1


async def test_metrics_are_prometheus_text(peer):
    reply = await peer.http.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=")
    assert b"# TYPE fedplan_reports_total counter" in reply.content


def test_each_app_counts_for_itself():
    one, other = Metrics(), Metrics()
    one.reports.labels("accepted").inc()
    assert b"accepted" in one.exposition()
    assert b"accepted" not in other.exposition()


async def test_a_peer_cannot_make_labels_without_end(peer):
    from fedplan.grid.web.callers import Caller
    from fedplan.grid.web.websocket import answer

    for n in range(3):
        await answer(peer.app.state.grid, f'{{"type": "invented-{n}"}}', Caller())
    assert "invented" not in (await peer.http.get("/metrics")).text
    prefix = 'fedplan_requests_total{call="other",outcome="400",transport="ws"}'
    assert await value(peer, prefix) == 3
