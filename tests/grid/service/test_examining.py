"""Reports that nothing can be computed with are refused when they come: the cycle closes with the others."""

import numpy as np
import pytest
import torch

from fedplan.plan import trace
from fedplan.wire import MetricMean, Summary, with_summary
from tests.grid.models import MODEL, base64_of, diff, state

QFEDAVG = {"strategy": {"name": "qfedavg", "q": 5, "lr": 0.1}}
HUGE = 1e100


def told(value, dtype="float32", **summary):
    """A report of one value throughout, as it is sent."""
    return base64_of(with_summary(diff(value, dtype=dtype), Summary(**summary)))


async def host(peer, dtype, **server):
    plan = trace(lambda x: x * 2, torch.zeros(3)).serialize()
    model = state(*MODEL, dtype=dtype)
    await peer.host(model=model, plans={"p": plan.hex()}, server={"max_diffs": 2, **server})


@pytest.mark.parametrize(
    ("dtype", "server", "value", "summary", "why"),
    [
        ("float32", QFEDAVG, 1.0, {"metrics": {"loss": MetricMean(HUGE, 1.0)}}, "cannot compute with it"),
        ("float64", {}, 1e290, {"samples": 1.0}, "a value beyond 1e+279"),
        ("float64", {}, 1e200, {"samples": HUGE}, "a weighted value reaches 1e+279"),
        ("float64", {}, 1e200, {}, "a weighted value reaches 1e+279"),  # others may tell 1e100 samples
    ],
    ids=["a loss to the fifth", "a value", "a weighted value", "a value whose weight others tell"],
)
async def test_a_number_that_is_too_large_is_refused_and_harms_nobody(
    peer, dtype, server, value, summary, why
):
    await host(peer, dtype, **server)
    bad, *good = [await peer.join(summary=True) for _ in range(3)]
    reply = await bad.report(diff=told(value, dtype, **summary))
    assert reply.status_code == 400
    assert why in reply.json()["error"]
    assert (await peer.status())["cycle"]["reported"] == 0
    for worker in good:
        usual = {"samples": 4.0, "metrics": {"loss": MetricMean(1.0, 4.0)}}
        assert (await worker.report(diff=told(2.0, dtype, **usual))).status_code == 200
    model = await peer.until_checkpoint(2)
    assert "last_failure" not in model
    rows = (await peer.http.get("/model-centric/history", params={"name": "m"})).json()["rows"]
    assert (rows[0]["reports"], rows[0]["samples"]) == (2, 8.0)
    if not server:
        np.testing.assert_allclose((await peer.checkpoint())[1], MODEL[1] - 2)


async def test_what_the_grid_measures_may_be_large(peer):
    await host(peer, "float64", metrics=["update_norm"], max_weight=1.0, max_norm=1e300)
    for worker in [await peer.join(summary=True) for _ in range(2)]:
        assert (await worker.report(diff=told(1e200, "float64", samples=1.0))).status_code == 200
    await peer.until_checkpoint(2)
    rows = (await peer.http.get("/model-centric/history", params={"name": "m"})).json()["rows"]
    assert rows[0]["metrics"]["update_norm"]["value"] == pytest.approx(1e200 * np.sqrt(8))


async def test_a_report_beyond_all_measure_is_refused_and_another_one_is_taken_under_the_same_key(peer):
    await host(peer, "float32")
    bad, good = await peer.join(), await peer.join()
    reply = await bad.report(diff=told(3e38))
    assert reply.status_code == 400
    assert "norm is 8.49e+38, and the model takes at most 2.45e+03, 1,000 ×" in reply.json()["error"]
    assert "'max_norm'" in reply.json()["error"]
    for worker in (bad, good):
        assert (await worker.report(diff=told(1.0))).status_code == 200
    await peer.until_checkpoint(2)


async def test_a_models_owner_says_how_large_a_report_may_be(peer):
    await host(peer, "float32", max_norm=3.0)
    worker = await peer.join()
    reply = await worker.report(diff=told(2.0))  # eight numbers: a norm of 5.7
    assert reply.status_code == 400
    assert "at most 3, which its server_config says ('max_norm')" in reply.json()["error"]
    assert (await worker.report(diff=told(1.0))).status_code == 200
