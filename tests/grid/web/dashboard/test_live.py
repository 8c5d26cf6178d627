import asyncio

from tests.grid.conftest import grid_at
from tests.grid.web.dashboard.conftest import OWNER, visiting


async def lines_of(visitor, path, *, until, act=None):
    """The lines of a stream until so many changes were told; `act` runs after the first."""
    changes, lines = 0, []
    async with asyncio.timeout(10), visitor.http.stream("GET", f"/{path}") as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
        async for line in reply.aiter_lines():
            lines.append(line)
            if not line.startswith("event:"):
                continue
            changes += 1
            if changes == until:
                return lines
            if changes == 1 and act is not None:
                await act()
    return lines


async def test_a_page_is_told_at_once_and_whenever_something_has_happened(visitor):
    await visitor.host("live")

    async def act():
        await visitor.join("live")

    lines = await lines_of(visitor, "live?name=live&version=1.0", until=2, act=act)

    assert [line for line in lines if line.startswith("event")] == ["event: change"] * 2


async def test_what_happens_to_other_models_is_not_told(visitor):
    await visitor.host("quiet")

    async def act():
        await visitor.host("loud")
        await asyncio.sleep(0.3)
        await visitor.join("quiet")

    lines = await lines_of(visitor, "live?name=quiet&version=1.0", until=2, act=act)
    shown = await visitor.open("model?name=quiet&version=1.0&part=live")

    assert lines.count("event: change") == 2
    assert "1 worker joined" in shown.text
    assert shown.all("html") == []


async def test_who_may_not_look_is_told_nothing(stranger):
    assert (await stranger.http.get("/live")).status_code == 303


async def test_a_page_whose_token_is_revoked_is_told_to_leave(stranger, guarded_address):
    await stranger.sign_in(OWNER)
    reply = await stranger.send("tokens", 200, name="leaves", scope="observe", days="7")
    token = "fedplan_" + reply.text.partition(">fedplan_")[2].partition("<")[0]
    async with visiting(guarded_address) as other:
        await other.sign_in(token)

        async def act():
            await stranger.send("revoke", name="leaves")

        lines = await lines_of(other, "live", until=2, act=act)

    assert [line for line in lines if line.startswith("event")] == ["event: change", "event: leave"]


async def test_a_part_of_a_page_leads_the_whole_page_to_the_sign_in(stranger):
    reply = await stranger.http.get("/?part=live", headers={"hx-request": "true"})
    assert reply.status_code == 204
    assert reply.headers["hx-redirect"].startswith("login?next=")


async def test_there_are_not_too_many_listeners(tmp_path):
    async with grid_at(tmp_path, max_event_streams=0) as peer:
        reply = await peer.http.get("/live")
        assert reply.status_code == 503
        assert "FEDPLAN_MAX_EVENT_STREAMS" in reply.text
