import hashlib
from pathlib import Path

import pytest

from fedplan.grid.web import dashboard
from fedplan.grid.web.dashboard.pages import STATIC, link
from tests.grid.golden.hosted import plan
from tests.grid.models import plan_that_fails_when_diffs_agree

VENDORED = Path(dashboard.__file__).parent / "static" / "vendor"
MARKUP = '<script>alert("1")</script>'


async def test_the_list_shows_models_and_their_cycles(visitor):
    server = {"max_diffs": 3, "num_cycles": 9, "cycle_length": 60}
    await visitor.host("listed", "1.0", server=server)
    await (await visitor.join("listed")).report(1)

    page = await visitor.open()

    for words in ("listed 1.0", "training", "1 of 9", "1 of 3"):
        assert words in page.text
    (row,) = [a for a in page.all("a") if a["href"] == "model?name=listed&version=1.0"]
    assert row["id"]


async def test_a_grid_without_models_says_so(open_grid):
    async with open_grid() as peer:
        assert "No model is hosted." in (await peer.http.get("/")).text


async def test_a_model_says_why_it_waits_and_who_takes_part(visitor):
    await visitor.host("waits", server={"min_diffs": 3, "max_diffs": 3})
    await (await visitor.join("waits")).report(1)
    left = await visitor.join("waits")
    await visitor.post(
        "decline", worker_id=left.worker_id, request_key=left.request_key, reason="the battery is low"
    )
    await visitor.join("waits")

    page = await visitor.open("model?name=waits&version=1.0")

    assert "Cycle 1 waits for 2 of 3 reports; 2 workers joined, 1 silent" in page.text
    assert "it gave its place back: the battery is low" in page.text
    for state in ("reported", "training", "without a place"):
        assert f" {state} " in page.text


async def test_what_came_of_cycles_is_shown_and_given_for_plots(visitor):
    await visitor.host("measured", server={"max_diffs": 1, "num_cycles": 3})
    await (await visitor.join("measured")).report(1)
    await visitor.until_checkpoint(2, "measured")

    page = await visitor.open("model?name=measured&version=1.0")
    points = (await visitor.http.get("/points?name=measured&version=1.0")).json()

    assert "latest" in page.text
    assert "checkpoint 2 was made of 1 report" in page.text
    assert points == []
    (plots,) = [one for one in page.all("div") if one.get("id") == "plots"]
    assert plots["data-points"] == "points?name=measured&version=1.0"


async def test_a_failed_cycle_is_shown(visitor):
    averaging = plan_that_fails_when_diffs_agree()
    await visitor.host("fails", averaging_plan=averaging, server={"num_cycles": 1})
    for _ in range(2):
        await (await visitor.join("fails")).report(1)
    await visitor.until(lambda model: model["phase"] == "finished", "fails")

    page = await visitor.open("model?name=fails&version=1.0")

    assert "Cycle 1 failed: the average does not fit the model" in page.text


async def test_a_client_that_cannot_train_a_model_is_a_fact_and_no_fault(visitor):
    await visitor.host("clients", plans={"<p>": plan(("tfjs",), ("#fedplan-error:tfjs:2.4e-07",)).hex()})

    page = await visitor.open("model?name=clients&version=1.0")

    assert "list, tfjs (±2.4e-07)" in page.text
    assert "KotlinSyft no: the Plan '<p>' is not hosted as torchscript" in page.text
    assert "syft.js yes, as tfjs" in page.text
    assert all("trouble" not in attributes.get("class", "") for _, attributes in page.elements)


async def test_a_plan_is_listed_with_its_cost(visitor):
    await visitor.host("planned", client={"batch_size": 4})

    page = await visitor.open("plan?name=planned&version=1.0&plan=training_plan")

    for words in ("Operations", "Memory of a run", "modelParam 0", "%0", "loss"):
        assert words in page.text
    await visitor.open("plan?name=planned&version=1.0&plan=none", 404)


async def test_a_checkpoint_can_be_downloaded(visitor):
    await visitor.host("kept")

    reply = await visitor.http.get("/checkpoint?name=kept&version=1.0&checkpoint=1")

    api = await visitor.http.get("/model-centric/retrieve-model?name=kept&version=1.0&checkpoint=1")
    assert reply.content == api.content
    assert reply.headers["content-disposition"] == 'attachment; filename="kept-1.0-1.pb"'


async def test_events_are_shown_of_all_models_and_of_one(visitor):
    await visitor.host("one")
    await visitor.host("other")

    everything, one = await visitor.open("events"), await visitor.open("events?name=one&version=1.0")

    assert "one 1.0" in everything.text
    assert "other 1.0" in everything.text
    assert "other 1.0" not in one.text


async def test_words_of_others_are_never_markup(visitor):
    await visitor.host(MARKUP, MARKUP)
    worker = await visitor.join(MARKUP, MARKUP)
    keys = {"worker_id": worker.worker_id, "request_key": worker.request_key}
    await visitor.post("decline", **keys, reason=MARKUP)
    there = link("model", name=MARKUP, version=MARKUP)

    for path in ("", there, "events", link("events", name=MARKUP), link("plan", name=MARKUP, plan=MARKUP)):
        reply = await visitor.http.get(f"/{path}")
        assert "<script>alert" not in reply.text
    assert MARKUP in (await visitor.open(there)).text


async def test_what_is_not_there_is_a_page_that_says_so(visitor):
    page = await visitor.open("model?name=none&version=1", 404)

    assert "this grid hosts no model 'none' version '1'" in page.text
    assert page.all("main")


@pytest.mark.parametrize("path", ["", "events", "tokens", "model?name=none", "confirm?do=revoke&name=n"])
async def test_nothing_is_inline_and_nothing_comes_from_elsewhere(visitor, path):
    reply = await visitor.http.get(f"/{path}")
    policy = reply.headers["content-security-policy"]

    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-content-type-options"] == "nosniff"
    for tag in ("<style", "style=", "onclick", "onload", "javascript:", "//cdn", "http://", "https://"):
        assert tag not in reply.text


@pytest.mark.parametrize("path", ["", "events", "tokens", "model?name=linked&version=1.0"])
async def test_links_are_relative_so_that_the_grid_may_stand_below_a_path(visitor, path):
    if path.startswith("model"):
        await visitor.host("linked")
    page = await visitor.open(path)
    links = [
        attributes[name]
        for _, attributes in page.elements
        for name in ("href", "src", "action", "hx-get", "sse-connect", "data-points")
        if name in attributes
    ]

    assert len(links) > 8
    assert [one for one in links if one.startswith("/") or ":" in one] == []


async def test_pages_can_be_read_by_who_does_not_see_them(visitor):
    await visitor.host("read")
    page = await visitor.open("model?name=read&version=1.0")

    assert page.all("html") == [{"lang": "en"}]
    assert [len(page.all(tag)) for tag in ("header", "main", "footer", "h1")] == [1, 1, 1, 1]
    assert page.all("a")[0] == {"class": "skip", "href": "#main"}
    assert all("aria-label" in nav for nav in page.all("nav"))
    assert all("scope" in head for head in page.all("th"))
    assert all("alt" in image for image in page.all("img"))
    names = [one["id"] for _, one in page.elements if "id" in one]
    assert len(names) == len(set(names))


async def test_files_are_kept_by_browsers_and_each_form_of_them_has_another_address(visitor):
    page = await visitor.open()
    scripts = [one["src"] for one in page.all("script")]

    assert len(scripts) == 4
    for address in scripts:
        reply = await visitor.http.get(f"/{address}")
        assert reply.headers["content-type"] == "text/javascript; charset=utf-8"
        assert "immutable" in reply.headers["cache-control"]
    assert (await visitor.http.get("/static/../pages.py")).status_code == 404
    assert (await visitor.http.get("/static/none.js")).status_code == 404


def test_files_of_others_are_those_that_were_fetched_with_version_and_licence():
    listed = {}
    for line in (VENDORED / "VENDORED").read_text().splitlines():
        name, _, rest = line.partition(": ")
        package, licence, digest = rest.split(", ")
        listed[name] = digest
        assert digest == f"sha256 {hashlib.sha256(STATIC[f'vendor/{name}']).hexdigest()}"
        assert (VENDORED / f"LICENSE.{package.split()[0]}").is_file()
        assert licence in ("0BSD", "MIT")
    held = {path.name for path in VENDORED.iterdir()}
    assert held - {"VENDORED"} - {name for name in held if name.startswith("LICENSE.")} == set(listed)
