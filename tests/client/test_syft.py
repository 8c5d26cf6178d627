import logging
from collections.abc import Iterator

import pytest

from fedplan.client import Job, ModelCentricFLClient, Syft
from fedplan.errors import ConfigError, InsecureUrlError
from tests.client.small_grid import SmallGrid


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """The package's logger, put back as it was."""
    logger = logging.getLogger("fedplan")
    level, handlers = logger.level, list(logger.handlers)
    logger.setLevel(logging.NOTSET)
    yield logger
    logger.setLevel(level)
    logger.handlers[:] = handlers


@pytest.mark.parametrize("url", ["http://grid.example", "ws://10.0.0.1:5000", "http://localhost.example"])
def test_a_plain_url_of_another_machine_is_refused_unless_it_is_allowed(
    url: str, logger: logging.Logger
) -> None:
    with pytest.raises(InsecureUrlError, match="allow_plain_text=True"):
        Syft(url)
    with pytest.raises(InsecureUrlError):
        Syft(url, verbose=True, allow_plain_text=False)
    with pytest.raises(InsecureUrlError):
        Syft(url, log=True)
    assert Syft(url, verbose=True).verbose
    assert not Syft(url, allow_plain_text=True).verbose


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.1", "[::1]", "LOCALHOST"])
@pytest.mark.parametrize("scheme", ["ws", "http"])
def test_a_plain_url_of_this_machine_is_always_allowed(scheme: str, host: str) -> None:
    assert Syft(f"{scheme}://{host}:5000").url
    assert Syft(f"{scheme}://{host}:5000", allow_plain_text=False).url
    assert ModelCentricFLClient(f"{scheme}://{host}:5000", token="t").url


def test_the_log_can_be_had_alone_and_left_alone(logger: logging.Logger) -> None:
    Syft("http://grid.example", verbose=True, log=False)
    assert logger.level == logging.NOTSET
    Syft("https://grid.example", log=True)
    assert logger.level == logging.INFO


@pytest.mark.parametrize("url", ["https://grid.example", "wss://grid.example"])
def test_a_secure_url_stays_as_it_is(url: str) -> None:
    assert Syft(url).url == url


def test_what_is_no_url_is_refused() -> None:
    with pytest.raises(ConfigError):
        Syft("localhost:5000", verbose=True)


def test_peer_config_has_its_place() -> None:
    assert Syft("https://grid.example", peer_config={"iceServers": []}).peer_config == {"iceServers": []}


def test_new_job_asks_nothing_yet(grid: SmallGrid, logger: logging.Logger) -> None:
    job = Syft(grid.url, verbose=True).new_job("m", "1.0", auth_token="t")
    assert isinstance(job, Job)
    assert (job.model_name, job.model_version) == ("m", "1.0")
    assert grid.requests == []


def test_verbose_shows_the_log_and_keeps_a_level_that_was_set(logger: logging.Logger) -> None:
    Syft("https://grid.example")
    assert logger.level == logging.NOTSET
    Syft("https://grid.example", verbose=True)
    assert logger.level == logging.INFO
    logger.setLevel(logging.ERROR)
    Syft("https://grid.example", verbose=True)
    assert logger.level == logging.ERROR


async def test_an_app_in_this_process_needs_no_secure_url(grid: SmallGrid) -> None:
    async with Syft("http://grid", app=grid.app) as syft:
        job = syft.new_job("m", "1.0")
        await job.start()
    assert job.model.serialize() == grid.model.serialize()
    assert len(grid.headers) > 0
    assert grid.sockets == 0


async def test_a_closed_client_can_be_used_again(grid: SmallGrid, logger: logging.Logger) -> None:
    syft = Syft(grid.ws_url, verbose=True)
    for _ in range(2):
        await syft.new_job("m", "1.0").start()
        await syft.aclose()
    assert grid.sockets == 2
