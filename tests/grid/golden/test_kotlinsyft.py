"""KotlinSyft (commit da8a442) on Android: OkHttp 4.3.1, Retrofit 2.7.1, kotlinx.serialization 0.14.

It writes what it does not know as null, a ping that it did not measure as −1, and lines of base64. One
unknown key in an answer, or a null, and it gives up. It loads TorchScript.
"""

import pytest

from . import hosted
from .replay import (
    ACCEPTED,
    ASKED_FOR_SPEED,
    AUTHENTICATED,
    REFUSED,
    REJECTED,
    REJECTED_FOR_GOOD,
    REPORTED,
    Answer,
    Ask,
    Open,
    Ping,
    Request,
    Say,
)

_CLIENT = "Host: <host>\nConnection: Keep-Alive\nAccept-Encoding: gzip\nUser-Agent: okhttp/4.3.1"
_UPGRADE = "Upgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Key: <key>\nSec-WebSocket-Version: 13"
OPEN = Open(f"{_UPGRADE}\nHost: <host>\nAccept-Encoding: gzip\nUser-Agent: okhttp/4.3.1")

# A stream of numbers made into a text is its address, not its numbers.
RANDOM = "random=java.util.stream.IntPipeline%24Head%40ef8ccb7"
KEYS = "worker_id=<worker_id>&request_key=<request_key>"

AUTHENTICATE = '{"auth_token":null,"model_name":"<model>","model_version":%s}'
UNMEASURED = '"ping":-1,"download":0.0,"upload":0.0'
CYCLE = '{"worker_id":"<worker_id>","model":"<model>","version":%s,%s}'
REPORT = '{"worker_id":"<worker_id>","request_key":"<request_key>","diff":"<diff_in_lines>"}'


def get(path, answer):
    return Ask(Request(f"GET {path}", _CLIENT), answer)


def post(call, body, answer):
    head = f"Content-Type: application/json\nContent-Length: <length>\n{_CLIENT}"
    return Ask(Request(f"POST /model-centric/{call}", head, body), answer)


def upload(query, answer):
    """A form of two parts, the second a file of 64 MiB."""
    boundary = "6f9a1f4e-8f0b-4a51-9c8a-3c7d0b2c4c11"
    first = (
        f"--{boundary}\r\n"
        'Content-Disposition: form-data; name="description"\r\n'
        "Content-Transfer-Encoding: binary\r\n"
        "Content-Length: 10\r\n\r\nuploadFile\r\n"
    )
    second = (
        f"--{boundary}\r\n"
        'Content-Disposition: form-data; name="sample"; filename="uploadFile"\r\n'
        "Content-Type: text/plain\r\n"
        "Content-Length: 67108864\r\n\r\n"
    )
    body = f"{first}{second}".encode() + b"x" * 67_108_864 + f"\r\n--{boundary}--\r\n".encode()
    kind = f"Content-Type: multipart/form-data; boundary={boundary}"
    head = f"{kind}\nContent-Length: <length>\n{_CLIENT}"
    return Ask(Request(f"POST /model-centric/speed-test?{query}", head, body), answer)


def say(call, data, hear):
    type = f"model-centric/{call}"
    return Say(f'{{"type":"{type}","data":{data}}}', {"type": type, "data": hear})


def ok(body):
    return Answer(200, body)


DOWNLOAD = [
    get(f"/model-centric/get-protocol?{KEYS}&protocol_id=<protocol_id>", ok(hosted.is_the_protocol)),
    get(
        f"/model-centric/get-plan?{KEYS}&plan_id=<plan_id>&receive_operations_as=torchscript",
        ok(hosted.is_torchscript),
    ),
    get(f"/model-centric/get-model?{KEYS}&model_id=<model_id>", ok(hosted.is_the_model)),
]


@pytest.mark.parametrize("version", ['"1.0"', "null"])
async def test_over_http(grid, version):
    name = await grid.hears(
        post("authenticate", AUTHENTICATE % version, ok(AUTHENTICATED)),
        post("cycle-request", CYCLE % (version, UNMEASURED), ok(ACCEPTED)),
        *DOWNLOAD,
        post("report", REPORT, ok(REPORTED)),
        max_diffs=1,
    )
    hosted.holds_trained_parameters(await grid.trained(name))


async def test_over_a_socket(grid):
    name = await grid.hears(
        OPEN,
        say("authenticate", AUTHENTICATE % '"1.0"', AUTHENTICATED),
        say("cycle-request", CYCLE % ('"1.0"', UNMEASURED), ACCEPTED),
        *DOWNLOAD,
        Ping(b""),
        say("report", REPORT, REPORTED),
        max_diffs=1,
    )
    hosted.holds_trained_parameters(await grid.trained(name))


async def test_joins_over_http_and_reports_over_a_socket(grid):
    name = await grid.hears(
        post("authenticate", AUTHENTICATE % '"1.0"', ok(AUTHENTICATED)),
        post("cycle-request", CYCLE % ('"1.0"', UNMEASURED), ok(ACCEPTED)),
        OPEN,
        say("report", REPORT, REPORTED),
        max_diffs=1,
    )
    hosted.holds_trained_parameters(await grid.trained(name))


async def test_reports_a_model_of_more_than_a_megabyte_in_one_frame(grid):
    name = await grid.hears(
        OPEN,
        say("authenticate", AUTHENTICATE % '"1.0"', AUTHENTICATED),
        say("cycle-request", CYCLE % ('"1.0"', UNMEASURED), ACCEPTED),
        say("report", REPORT, REPORTED),
        large=True,
        max_diffs=1,
    )
    await grid.trained(name)


async def test_measures_its_speed(grid):
    """In kilobytes a second. The ping's answer must be an object, if an empty one."""
    await grid.hears(
        post("authenticate", AUTHENTICATE % '"1.0"', ok(ASKED_FOR_SPEED)),
        get(f"/model-centric/speed-test?is_ping=1&worker_id=<worker_id>&{RANDOM}", ok({})),
        get(
            f"/model-centric/speed-test?worker_id=<worker_id>&{RANDOM}",
            ok(hosted.is_as_large_as_the_speed_test),
        ),
        upload(f"worker_id=<worker_id>&{RANDOM}", ok({})),
        post(
            "cycle-request",
            CYCLE % ('"1.0"', '"ping":23,"download":21333.334,"upload":1310.72'),
            ok(ACCEPTED),
        ),
        max_diffs=1,
        minimum_upload_speed=10,
        minimum_download_speed=10,
    )


async def test_is_rejected_when_it_is_slow(grid):
    speeds = '"ping":23,"download":21333.334,"upload":1200.5'
    await grid.hears(
        post("authenticate", AUTHENTICATE % '"1.0"', ok(ASKED_FOR_SPEED)),
        post("cycle-request", CYCLE % ('"1.0"', speeds), ok(REJECTED)),
        max_diffs=1,
        minimum_upload_speed=10,
    )


async def test_is_rejected_with_whole_seconds(grid):
    await grid.hears(
        post("authenticate", AUTHENTICATE % '"1.0"', ok(AUTHENTICATED)),
        post("cycle-request", CYCLE % ('"1.0"', UNMEASURED), ok(ACCEPTED)),
        post("authenticate", AUTHENTICATE % '"1.0"', ok(AUTHENTICATED)),
        post("cycle-request", CYCLE % ('"1.0"', UNMEASURED), ok(REJECTED)),
        OPEN,
        say("cycle-request", CYCLE % ('"1.0"', UNMEASURED), REJECTED),
        max_workers=1,
        cycle_length=3600,
    )


async def test_is_told_at_once_that_it_cannot_run_a_plan(grid):
    name = await grid.hears(
        post("authenticate", AUTHENTICATE % '"1.0"', ok(AUTHENTICATED)),
        post("cycle-request", CYCLE % ('"1.0"', UNMEASURED), ok(REJECTED_FOR_GOOD)),
        OPEN,
        say("authenticate", AUTHENTICATE % '"1.0"', AUTHENTICATED),
        say("cycle-request", CYCLE % ('"1.0"', UNMEASURED), REJECTED_FOR_GOOD),
        parts=hosted.hosted_as("tfjs"),
    )
    assert await grid.withheld_from(name) == ["KotlinSyft", "SwiftSyft"]


async def test_is_told_at_once_that_it_cannot_read_the_client_config(grid):
    name = await grid.hears(
        post("authenticate", AUTHENTICATE % '"1.0"', ok(AUTHENTICATED)),
        post("cycle-request", CYCLE % ('"1.0"', UNMEASURED), ok(REJECTED_FOR_GOOD)),
        parts={"client": {"max_updates": None}},
    )
    assert "KotlinSyft" in await grid.withheld_from(name)


async def test_is_refused(grid):
    unknown = (AUTHENTICATE % '"1.0"').replace("<model>", "nothing")
    await grid.hears(
        post("authenticate", unknown, Answer(404, REFUSED)),
        post("authenticate", AUTHENTICATE % '"2.0"', Answer(404, REFUSED)),
        post(
            "report", REPORT.replace("<worker_id>", "w").replace("<request_key>", "x"), Answer(403, REFUSED)
        ),
        OPEN,
        say("authenticate", unknown, REFUSED),
    )
