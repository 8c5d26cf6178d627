import contextlib
import html.parser
import re

import httpx
import pytest

from fedplan.grid import Settings
from tests.grid.conftest import serving
from tests.grid.peers import Peer

OWNER = "the owner token of this grid"


class Reader(html.parser.HTMLParser):
    """Collects the elements and the text of a page."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.texts = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag in ("td", "th", "dt", "dd", "p", "li"):
            self.texts.append(" ")

    def handle_data(self, data):
        self.texts.append(data)


class Page:
    """A page as a test reads it: its text, and its elements with their attributes."""

    def __init__(self, reply):
        self.reply = reply
        reader = Reader(reply.text)
        self.elements = reader.elements
        self.text = re.sub(r"\s+", " ", "".join(reader.texts)).strip()

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def field(self, name):
        """The value of a form's field."""
        return next(one["value"] for one in self.all("input") if one.get("name") == name)


class Visitor(Peer):
    """Somebody with a browser's cookies, who may also send what workers send."""

    async def open(self, path="", status=200):
        reply = await self.http.get(f"/{path}")
        assert reply.status_code == status, reply.text
        return Page(reply)

    async def send(self, path, status=303, *, headers=None, **fields):
        """Sends a form as a page of the grid would."""
        page = await self.open("login" if path == "login" else "events")
        form = (page if page.all("form") else await self.open("tokens")).field("form")
        return await self.send_raw(path, status, headers=headers, **{"form": form, **fields})

    async def send_raw(self, path, status, *, headers=None, **fields):
        reply = await self.http.post(f"/{path}", data=fields, headers=headers)
        assert reply.status_code == status, reply.text
        return reply

    async def sign_in(self, token, status=303, **fields):
        return await self.send("login", status, token=token, **fields)


@contextlib.asynccontextmanager
async def visiting(address):
    async with httpx.AsyncClient(base_url=f"http://{address}") as http:
        yield Visitor(http)


@pytest.fixture(scope="session")
def open_address(tmp_path_factory):
    """A real server without tokens."""
    with serving(Settings(data_dir=tmp_path_factory.mktemp("open"), poll_seconds=0.05)) as address:
        yield address


@pytest.fixture(scope="session")
def guarded_address(tmp_path_factory):
    """A real server with an owner token."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("guarded"), poll_seconds=0.05, owner_token=OWNER)
    with serving(settings) as address:
        yield address


@pytest.fixture
async def visitor(open_address):
    async with visiting(open_address) as visitor:
        yield visitor


@pytest.fixture
async def stranger(guarded_address):
    """A visitor of a grid with tokens, who is not signed in."""
    async with visiting(guarded_address) as visitor:
        yield visitor
