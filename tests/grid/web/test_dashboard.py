import base64

from tests.grid.golden.hosted import plan
from tests.grid.models import plan_that_fails_when_diffs_agree


async def test_the_page_lists_models_and_their_cycles(peer):
    reply = await peer.http.get("/")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert "No model is hosted." in reply.text
    await peer.host("digits", "1.0", server={"max_diffs": 3, "num_cycles": 9, "cycle_length": 60})
    await (await peer.join("digits")).report(1)
    page = (await peer.http.get("/")).text
    for cell in ("digits", "1.0", "training", "1 of 9", "open", "1, 1 needed", "UTC"):
        assert f"<td>{cell}" in page or f"{cell}</td>" in page


async def test_the_page_renews_itself_and_needs_nothing_from_elsewhere(peer):
    page = (await peer.http.get("/")).text
    assert 'http-equiv="refresh"' in page
    assert "src=" not in page
    assert "href=" not in page


async def test_plans_and_who_cannot_run_them_are_shown(peer):
    await peer.host(plans={"<p>": plan(("tfjs",), ("#fedplan-error:tfjs:2.4e-07",)).hex()})
    page = (await peer.http.get("/")).text
    assert "Plan &lt;p&gt;: list, tfjs (±2.4e-07)" in page
    assert "no KotlinSyft: the Plan &#x27;&lt;p&gt;&#x27; is not hosted as torchscript" in page
    assert "no syft.js" not in page


async def test_a_failed_cycle_is_shown(peer):
    await peer.host(averaging_plan=plan_that_fails_when_diffs_agree(), server={"num_cycles": 1})
    for _ in range(2):
        await (await peer.join()).report(1)
    await peer.until(lambda model: model["phase"] == "finished")
    assert "last failure: the average does not fit the model" in (await peer.http.get("/")).text


async def test_a_browser_is_asked_for_the_owner_token(open_grid):
    async with open_grid(owner_token="a token") as peer:
        reply = await peer.http.get("/")
        assert reply.status_code == 401
        assert reply.headers["www-authenticate"].startswith("Basic ")
        for user, password, status in (("", "a token", 200), ("me", "a token", 200), ("me", "x", 401)):
            code = base64.b64encode(f"{user}:{password}".encode()).decode()
            reply = await peer.http.get("/", headers={"authorization": f"Basic {code}"})
            assert reply.status_code == status
        for header in ("Basic !!!", "Basic /w==", "Basic"):
            assert (await peer.http.get("/", headers={"authorization": header})).status_code == 401
        reply = await peer.http.get("/", headers={"authorization": "Bearer a token"})
        assert reply.status_code == 200
