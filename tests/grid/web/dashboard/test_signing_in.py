import base64

import pytest

from fedplan.grid import Settings
from fedplan.grid.web.dashboard.sessions import COOKIE, SESSION_SECONDS
from tests.grid.conftest import serving
from tests.grid.web.dashboard.conftest import OWNER, Page, Visitor, visiting


async def new_token(stranger, name, *scopes):
    """A token that the owner makes on its page."""
    await stranger.sign_in(OWNER)
    reply = await stranger.send("tokens", 200, name=name, scope=list(scopes), days="7")
    text = Page(reply).text.partition(" fedplan_")[2].split()[0]
    await stranger.send("logout")
    return f"fedplan_{text}"


async def test_who_is_not_signed_in_is_led_to_the_page_for_it_and_back(stranger):
    reply = await stranger.http.get("/model?name=a+b&version=1")
    assert reply.status_code == 303
    assert reply.headers["location"] == "login?next=model%3Fname%3Da%2Bb%26version%3D1"
    page = await stranger.open(reply.headers["location"])
    assert page.field("next") == "model?name=a+b&version=1"

    reply = await stranger.sign_in(OWNER, next=page.field("next"))

    assert reply.headers["location"] == "model?name=a+b&version=1"
    await stranger.open("events")


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:x", "model:x", "static/x"],
)
async def test_signing_in_leads_to_no_other_site(stranger, target):
    assert (await stranger.open(f"login?next={target}")).field("next") == ""
    assert (await stranger.sign_in(OWNER, next=target)).headers["location"] == "./"


async def test_the_cookie_is_kept_from_scripts_and_other_sites_and_does_not_show_the_token(stranger):
    cookie = (await stranger.sign_in(OWNER)).headers["set-cookie"]

    for part in ("HttpOnly", "SameSite=strict", f"Max-Age={SESSION_SECONDS:.0f}"):
        assert part in cookie
    assert "Path" not in cookie  # so that it is for the folder in which the grid stands
    value = stranger.http.cookies[COOKIE]
    assert OWNER.encode() not in base64.urlsafe_b64decode(value + "==")


@pytest.mark.parametrize("scheme", ["https", "http"])
async def test_the_cookie_goes_over_tls_alone_where_a_proxy_says_that_the_page_came_so(stranger, scheme):
    stranger.http.headers["x-forwarded-proto"] = scheme
    cookie = (await stranger.sign_in(OWNER)).headers["set-cookie"]
    assert ("Secure" in cookie) == (scheme == "https")


async def test_a_wrong_token_is_refused_with_the_reason(stranger):
    reply = await stranger.sign_in("wrong", 401)

    assert "the token is not known to this grid" in reply.text
    assert COOKIE not in stranger.http.cookies
    assert "Give a token." in (await stranger.sign_in("", 401)).text


async def test_who_signs_out_is_a_stranger_again(stranger):
    await stranger.sign_in(OWNER)
    await stranger.send("logout")
    assert COOKIE not in stranger.http.cookies
    assert (await stranger.http.get("/")).status_code == 303


@pytest.mark.parametrize("cookie", ["x", "eyJ0b2tlbiI6ICJ4In0", "", "=", "%ff", "a" * 5000])
async def test_a_cookie_that_this_grid_has_not_made_opens_nothing(stranger, cookie):
    reply = await stranger.http.get("/events", headers={"cookie": f"{COOKIE}={cookie}"})
    assert reply.status_code == 303


async def test_a_session_ends_by_itself(open_grid):
    now = [1_700_000_000.0]
    async with open_grid(owner_token=OWNER, clock=lambda: now[0]) as peer:
        visitor = Visitor(peer.http)
        await visitor.sign_in(OWNER)
        await visitor.open("events")
        held = dict(peer.http.cookies)
        now[0] += SESSION_SECONDS
        peer.http.cookies.update(held)
        reply = await peer.http.get("/events", headers={"cookie": f"{COOKIE}={held[COOKIE]}"})
        assert reply.headers["location"] == "login?next=events&ended=yes"


async def test_any_replica_takes_the_session(tmp_path):
    settings = Settings(data_dir=tmp_path, owner_token=OWNER)
    with serving(settings) as one, serving(settings) as other:
        async with visiting(one) as visitor:
            await visitor.sign_in(OWNER)
            cookie = f"{COOKIE}={visitor.http.cookies[COOKIE]}"
        async with visiting(other) as visitor:
            reply = await visitor.http.get("/", headers={"cookie": cookie})
            assert reply.status_code == 200


async def test_a_token_sees_and_does_what_its_scopes_say(stranger):
    token = await new_token(stranger, "looks", "observe")
    await stranger.sign_in(token)

    page = await stranger.open()

    assert "looks" in page.text
    assert "tokens" not in [one.get("href") for one in page.all("a")]
    assert (
        "the token 'looks' is for observe, and this needs 'admin'"
        in (await stranger.open("tokens", 403)).text
    )
    await stranger.send("tokens", 403, name="more", scope="admin")
    await stranger.send("revoke", 403, name="looks")


async def test_a_token_that_may_not_look_is_refused_at_the_door(stranger):
    token = await new_token(stranger, "only hosts", "host")
    page = Page(await stranger.sign_in(token, 403))
    assert "is for host, and this needs 'observe'" in page.text


async def test_revoking_a_token_ends_its_sessions(stranger, guarded_address):
    token = await new_token(stranger, "short", "observe")
    async with visiting(guarded_address) as other:
        await other.sign_in(token)
        await other.open("events")
        await stranger.sign_in(OWNER)
        reply = await stranger.send("revoke", name="short")
        assert reply.headers["location"] == "tokens?said=revoke"
        assert "The token is revoked." in (await stranger.open("tokens?said=revoke")).text
        reply = await other.http.get("/events")
        assert reply.status_code == 303
        assert "Your session has ended" in (await other.open(reply.headers["location"])).text


async def test_tokens_that_are_made_on_the_page_are_told_once_and_written_down(stranger):
    token = await new_token(stranger, "made here", "read", "observe")
    await stranger.sign_in(OWNER)

    page = await stranger.open("tokens")

    assert "made here" in page.text
    assert "observe, read" in page.text
    assert token not in page.reply.text
    events = (await stranger.open("events")).text
    assert "asked for on the dashboard" in events
    assert "owner token" in events


@pytest.mark.parametrize(
    ("fields", "status", "why"),
    [
        ({"name": "n", "scope": "all", "days": "7"}, 400, "is not one that the form offers"),
        ({"name": "n", "scope": "host", "days": "1"}, 400, "is not one that the form offers"),
        ({"name": "n", "days": "7"}, 400, "a token without a scope opens nothing"),
        ({"name": " ", "scope": "host", "days": "7"}, 400, "a token's name has 1 to"),
    ],
)
async def test_a_token_that_cannot_be_made_is_refused_with_the_reason(stranger, fields, status, why):
    await stranger.sign_in(OWNER)
    assert why in Page(await stranger.send("tokens", status, **fields)).text


async def test_programs_show_their_token_in_a_header_and_are_told_so_when_it_is_wrong(stranger):
    headers = {"authorization": f"Bearer {OWNER}"}
    assert (await stranger.http.get("/", headers=headers)).status_code == 200
    reply = await stranger.http.get("/", headers={"authorization": "Bearer x"})
    assert reply.status_code == 401
    assert "the token is not known to this grid" in reply.json()["error"]


class TestForms:
    @pytest.mark.parametrize("path", ["logout", "tokens", "revoke", "login"])
    async def test_without_the_pages_own_mark_do_nothing(self, stranger, path):
        await stranger.sign_in(OWNER)
        for fields in ({}, {"form": "x"}, {"form": "ä"}):
            reply = await stranger.send_raw(path, 403, name="n", scope="host", token=OWNER, **fields)
            assert "this was not sent from a page of this grid" in reply.text

    async def test_of_another_session_do_nothing(self, stranger, guarded_address):
        async with visiting(guarded_address) as other:
            mark = (await other.open("login")).field("form")
        await stranger.sign_in(OWNER)
        await stranger.send_raw("revoke", 403, form=mark, name="n")

    @pytest.mark.parametrize(
        "headers",
        [
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
            {"origin": "https://evil.example"},
            {"origin": "null"},
        ],
    )
    async def test_from_elsewhere_do_nothing(self, stranger, headers):
        await stranger.sign_in(OWNER)
        await stranger.send("revoke", 403, headers=headers, name="n")

    async def test_behind_a_proxy_that_renames_the_host_work_in_a_browser(self, stranger):
        headers = {"sec-fetch-site": "same-origin", "origin": "https://grid.example"}
        assert (await stranger.sign_in(OWNER, headers=headers)).headers["location"] == "./"

    async def test_of_a_grid_without_tokens_are_refused_to_pages_from_elsewhere(self, visitor):
        headers = {"origin": "https://evil.example"}
        await visitor.send("tokens", 403, headers=headers, name="n", scope="admin")

    async def test_that_are_too_large_are_not_read(self, visitor):
        assert "larger than" in (await visitor.send("tokens", 413, name="n" * 100_000)).text
