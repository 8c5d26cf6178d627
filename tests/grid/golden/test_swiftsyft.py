"""SwiftSyft (commit d5d28b2) on iOS: Foundation's URLSession and its WebSocket tasks.

Foundation writes a slash in JSON as ``\\/``. What was not measured is left out, but the ping, which is always
8 over HTTP. Over WebSocket it knows no request_id, and starts with a `socket-ping`; a rejection without a
`timeout`, which is not optional there (`CycleRequestError`), cannot be decoded. It loads TorchScript.
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
    Request,
    Say,
    Together,
)

_AGENT = "User-Agent: SwiftSyft_Example/1 CFNetwork/1220.1 Darwin/20.3.0"
_REST = f"Accept-Language: en-us\nAccept-Encoding: gzip, deflate\nConnection: keep-alive\n{_AGENT}"
OPEN = Open(
    "Host: <host>\nUpgrade: websocket\nConnection: Upgrade\nAccept: */*\n"
    f"{_AGENT}\nAccept-Language: en-us\nAccept-Encoding: gzip, deflate\n"
    "Sec-WebSocket-Version: 13\nSec-WebSocket-Key: <key>\nSec-WebSocket-Extensions: permessage-deflate"
)

RANDOM = "random=AbyKq7wzQ0dXn2LJv5sT8rEhUoGc1M"
REJECTED_FOR_GOOD_TIMED = {"status": "rejected", "timeout": 365 * 86_400}

AUTHENTICATE = '{"model_name":"<model>","model_version":"1.0"}'
CYCLE = '{"model":"<model>","worker_id":"<worker_id>","version":"1.0"%s}'
REPORT = '{"diff":"<diff_escaped>","worker_id":"<worker_id>","request_key":"<request_key>"}'


def get(path, answer):
    return Ask(Request(f"GET {path}", f"Host: <host>\nAccept: */*\n{_REST}"), answer)


def post(call, body, answer):
    head = (
        "Host: <host>\nContent-Type: application/json\nAccept: application/json\nContent-Length: <length>\n"
    )
    return Ask(Request(f"POST /model-centric/{call}", head + _REST, body), answer)


def upload(query, answer):
    """A form of one part, 64 million bytes, whose last boundary ends without a line break."""
    boundary = "Boundary-8B0E1F4C-6C38-4C0B-8A8F-0C0B1C1E9B57"
    part = (
        f"--{boundary}\r\n"
        'Content-Disposition: form-data; name="file"; filename="swiftsyt_speedtest"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    body = part.encode() + bytes(64_000_000) + f"\r\n--{boundary}--".encode()
    kind = f"Host: <host>\nContent-Type: multipart/form-data; boundary={boundary}\nAccept: */*\n"
    head = f"{kind}Content-Length: <length>\n{_REST}"
    return Ask(Request(f"POST /model-centric/speed-test?{query}", head, body), answer)


def say(call, data, hear):
    text = f'{{"type":"model-centric\\/{call}","data":{data}}}'
    return Say(text, {"type": f"model-centric/{call}", "data": hear})


def ok(body):
    return Answer(200, body)


KEEP_ALIVE = Say('{"type":"socket-ping"}', {"type": "socket-ping", "data": {}})

DOWNLOAD = [
    get(
        "/model-centric/get-plan?worker_id=<worker_id>&plan_id=<plan_id>&request_key=<request_key>"
        "&receive_operations_as=torchscript",
        ok(hosted.is_torchscript),
    ),
    get(
        "/model-centric/get-model?worker_id=<worker_id>&model_id=<model_id>&request_key=<request_key>",
        ok(hosted.is_the_model),
    ),
]


async def test_over_http(grid):
    name = await grid.hears(
        post("authenticate", AUTHENTICATE, ok(AUTHENTICATED)),
        post("cycle-request", CYCLE % ',"ping":8', ok(ACCEPTED)),
        Together(DOWNLOAD),
        post("report", REPORT, ok(REPORTED)),
        max_diffs=1,
    )
    hosted.holds_trained_parameters(await grid.trained(name))


async def test_over_a_socket(grid):
    name = await grid.hears(
        OPEN,
        KEEP_ALIVE,
        say("authenticate", AUTHENTICATE, AUTHENTICATED),
        say("cycle-request", CYCLE % "", ACCEPTED),
        Together(DOWNLOAD),
        KEEP_ALIVE,
        say("report", REPORT, REPORTED),
        max_diffs=1,
    )
    hosted.holds_trained_parameters(await grid.trained(name))


async def test_reports_a_model_of_more_than_a_megabyte(grid):
    name = await grid.hears(
        OPEN,
        say("authenticate", AUTHENTICATE, AUTHENTICATED),
        say("cycle-request", CYCLE % "", ACCEPTED),
        say("report", REPORT, REPORTED),
        large=True,
        max_diffs=1,
    )
    await grid.trained(name)


async def test_measures_its_speed(grid):
    """In megabytes a second, up and down at once, also when the URL is ws://."""
    query = f"{RANDOM}&worker_id=<worker_id>"
    await grid.hears(
        OPEN,
        say("authenticate", AUTHENTICATE, ASKED_FOR_SPEED),
        Together(
            [
                upload(query, ok({})),
                get(f"/model-centric/speed-test?{query}", ok(hosted.is_as_large_as_the_speed_test)),
            ]
        ),
        say("cycle-request", CYCLE % ',"ping":8,"download":6.25,"upload":1.25', ACCEPTED),
        max_diffs=1,
        minimum_upload_speed=10,
        minimum_download_speed=10,
    )


@pytest.mark.parametrize("upload_speed", ["1.1875", "-1"])
async def test_is_rejected_when_it_is_slow(grid, upload_speed):
    await grid.hears(
        OPEN,
        say("authenticate", AUTHENTICATE, ASKED_FOR_SPEED),
        say("cycle-request", CYCLE % f',"ping":8,"download":6.25,"upload":{upload_speed}', REJECTED),
        max_diffs=1,
        minimum_upload_speed=10,
    )


async def test_is_rejected_with_whole_seconds(grid):
    unmeasured = ',"ping":8,"download":-1,"upload":-1'
    await grid.hears(
        post("authenticate", AUTHENTICATE, ok(AUTHENTICATED)),
        post("cycle-request", CYCLE % unmeasured, ok(ACCEPTED)),
        post("authenticate", AUTHENTICATE, ok(AUTHENTICATED)),
        post("cycle-request", CYCLE % unmeasured, ok(REJECTED)),
        OPEN,
        say("cycle-request", CYCLE % "", REJECTED),
        max_workers=1,
        cycle_length=3600,
    )


async def test_is_told_at_once_that_it_cannot_run_a_plan(grid):
    name = await grid.hears(
        post("authenticate", AUTHENTICATE, ok(AUTHENTICATED)),
        post("cycle-request", CYCLE % "", ok(REJECTED_FOR_GOOD)),
        OPEN,
        say("authenticate", AUTHENTICATE, AUTHENTICATED),
        say("cycle-request", CYCLE % "", REJECTED_FOR_GOOD_TIMED),
        parts=hosted.hosted_as("tfjs"),
    )
    assert await grid.withheld_from(name) == ["KotlinSyft", "SwiftSyft"]


async def test_is_told_at_once_that_it_cannot_read_the_client_config(grid):
    name = await grid.hears(
        post("authenticate", AUTHENTICATE, ok(AUTHENTICATED)),
        post("cycle-request", CYCLE % "", ok(REJECTED_FOR_GOOD)),
        parts={"client": {"max_updates": None}},
    )
    assert "SwiftSyft" in await grid.withheld_from(name)


async def test_is_refused(grid):
    unknown = AUTHENTICATE.replace("<model>", "nothing")
    await grid.hears(
        post("authenticate", unknown, Answer(404, REFUSED)),
        post("cycle-request", (CYCLE % "").replace("<worker_id>", "w"), Answer(401, REFUSED)),
        OPEN,
        say("authenticate", unknown, REFUSED),
        say("cycle-request", (CYCLE % "").replace("<worker_id>", "w"), REFUSED),
    )
