import time

import pytest

from fedplan.errors import AccessDeniedError, AuthenticationError, ConfigError
from fedplan.grid.identity.access import Access, make_token, revoke_token
from fedplan.grid.records import Scope
from fedplan.grid.store import Store
from fedplan.grid.web.callers import Caller
from tests.grid.clock import Clock
from tests.grid.databases import database_of


@pytest.fixture
async def store(tmp_path):
    store = await Store.open(await database_of(tmp_path))
    yield store
    await store.aclose()


@pytest.fixture
def clock():
    return Clock(time.time())


NOBODY = Caller()
PAGE = Caller(origin="https://evil.example", host="localhost")


class TestAGridWithoutTokens:
    async def test_is_open_to_all_but_web_pages_from_elsewhere(self, store, clock):
        access = Access(store, None, clock)
        for scope in Scope:
            await access.require(NOBODY, scope)
            await access.require(Caller(token="any"), scope)
            with pytest.raises(AccessDeniedError, match="no web page"):
                await access.require(PAGE, scope)

    async def test_is_closed_by_the_first_token_and_stays_so_when_it_is_revoked(self, store, clock):
        access = Access(store, None, clock)
        token = await make_token(store, "ann", [Scope.READ], None)
        await access.require(Caller(token=token), Scope.READ)
        await revoke_token(store, "ann")
        for caller in (NOBODY, PAGE, Caller(token=token)):
            with pytest.raises(AuthenticationError):
                await access.require(caller, Scope.READ)


class TestAToken:
    async def test_opens_what_it_is_for_until_it_expires(self, store, clock):
        access = Access(store, "the owner's", clock)
        caller = Caller(token=await make_token(store, "ann", [Scope.READ, Scope.HOST], 60, clock.now))
        await access.require(caller, Scope.READ)
        with pytest.raises(AccessDeniedError, match="'ann' is for host, read, and this needs 'observe'"):
            await access.require(caller, Scope.OBSERVE)
        clock.now += 60
        with pytest.raises(AuthenticationError, match="'ann' expired at 2"):
            await access.require(caller, Scope.READ)

    async def test_of_the_owner_opens_everything(self, store, clock):
        access = Access(store, "the owner's", clock)
        for scope in Scope:
            await access.require(Caller(token="the owner's"), scope)
            for wrong in (None, "", "the owner", "fedplan_x"):
                with pytest.raises(AuthenticationError):
                    await access.require(Caller(token=wrong), scope)

    async def test_lets_the_web_page_in_that_shows_it(self, store, clock):
        token = await make_token(store, "page", [Scope.OBSERVE], None)
        page = Caller(token=token, origin="https://page.example", host="grid.example")
        await Access(store, None, clock).require(page, Scope.OBSERVE)

    async def test_that_opens_nothing_or_has_a_name_in_use_is_not_made(self, store, clock):
        with pytest.raises(ConfigError, match="host, read, observe, admin"):
            await make_token(store, "ann", [], None)
        for name in ("", "a\nb", "a" * 201):
            with pytest.raises(ConfigError, match="1 to 200 printable characters"):
                await make_token(store, name, [Scope.READ], None)
        await make_token(store, "ann", [Scope.READ], 60, clock.now - 61)
        await make_token(store, "ann", [Scope.READ], None)  # the first one has expired
        with pytest.raises(ConfigError, match="there is a token 'ann'"):
            await make_token(store, "ann", [Scope.READ], None)
