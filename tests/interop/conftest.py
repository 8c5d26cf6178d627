import functools

import httpx
import pytest

from fedplan.grid import Settings
from tests.grid.conftest import serving
from tests.grid.peers import Peer

from .digits import DIGITS
from .trainings import FIXTURES, OTHERS, TRAININGS, Training
from .workers import FOLDER


@pytest.fixture(scope="session", autouse=True)
def _installed():
    if not (FOLDER / "node_modules").is_dir():
        pytest.exit("tests/interop needs packages from npm; `scripts/test --interop` installs them", 1)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The address of a real grid."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("grid"), poll_seconds=0.05, retry_seconds=1.0)
    with serving(settings) as address:
        yield address


@pytest.fixture
async def peer(server):
    async with httpx.AsyncClient(base_url=f"http://{server}") as http:
        yield Peer(http)


@pytest.fixture(params=TRAININGS)
def training(request) -> Training:
    if "PySyft" in request.param and not FIXTURES.is_dir():
        pytest.skip(f"no PySyft fixtures in {FIXTURES}")
    return (TRAININGS | DIGITS | OTHERS)[request.param]()


@pytest.fixture
def host(peer, training):
    """Hosts the training; takes the server_config, returns the model's name."""
    return functools.partial(training.host, peer)
