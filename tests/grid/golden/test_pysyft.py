"""PySyft 0.2.9's Python worker: messages over websocket-client, downloads and speeds over requests.

A client authenticates once for all its jobs. It always measures its speed, in kilobytes a second. Its jobs
load TorchScript; a worker can also ask for the list, which is what PyGrid sends to who names none.
"""

import pytest

from . import hosted
from .replay import ACCEPTED, AUTHENTICATED, REFUSED, REPORTED, Answer, Ask, Open, Request, Say

_REQUESTS = (
    "User-Agent: python-requests/2.25.1\nAccept-Encoding: gzip, deflate\nAccept: */*\nConnection: keep-alive"
)
OPEN = Open(
    "Upgrade: websocket\nHost: <host>\nOrigin: http://<host>\nSec-WebSocket-Key: <key>\n"
    "Sec-WebSocket-Version: 13\nConnection: Upgrade"
)

RANDOM = "random=283197385041366189042905338923145098233"
SPEED_TEST = f"/model-centric/speed-test?worker_id=<worker_id>&{RANDOM}"
KEYS = "worker_id=<worker_id>&request_key=<request_key>"


def get(path, body):
    return Ask(Request(f"GET {path}", f"Host: <host>\n{_REQUESTS}"), Answer(200, body))


def upload(size):
    """A form with one field, coded as URLs are."""
    head = f"Host: <host>\n{_REQUESTS}\nContent-Length: <length>\n"
    head += "Content-Type: application/x-www-form-urlencoded"
    return Ask(Request(f"POST {SPEED_TEST}", head, b"upload_data=" + b"x" * size), Answer(200, {}))


def say(call, data, hear):
    type = f"model-centric/{call}"
    return Say(f'{{"type": "{type}", "data": {data}}}', {"type": type, "data": hear})


AUTHENTICATE = say(
    "authenticate",
    '{"auth_token": null, "model_name": "<model>", "model_version": "1.0"}',
    AUTHENTICATED,
)
ASK = '{"worker_id": "<worker_id>", "model": "<model>", "version": "1.0", %s}'
SPEEDS = '"ping": 9.70458984375, "download": 412318.7, "upload": %s'
REPORT = '{"worker_id": "<worker_id>", "request_key": "<request_key>", "diff": "<diff>"}'


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("&receive_operations_as=torchscript", hosted.is_torchscript),
        ("&receive_operations_as=list", hosted.is_the_list),
        ("", hosted.is_the_list),
    ],
)
@pytest.mark.parametrize("upload_speed", ["93501.25", "Infinity"])
async def test_over_a_socket_and_http(grid, form, expected, upload_speed):
    """Where no time passed a speed is infinite, and written as JSON has no word for."""
    name = await grid.hears(
        OPEN,
        AUTHENTICATE,
        *[get(f"/model-centric/speed-test?is_ping=1&worker_id=<worker_id>&{RANDOM}", {}) for _ in range(3)],
        upload(655_360),
        get(SPEED_TEST, hosted.is_as_large_as_the_speed_test),
        say("cycle-request", ASK % SPEEDS % upload_speed, ACCEPTED),
        get(f"/model-centric/get-model?{KEYS}&model_id=<model_id>", hosted.is_the_model),
        get(f"/model-centric/get-plan?{KEYS}&plan_id=<plan_id>{form}", expected),
        say("report", REPORT, REPORTED),
        max_diffs=1,
    )
    hosted.holds_trained_parameters(await grid.trained(name))


async def test_is_refused(grid):
    await grid.hears(
        OPEN,
        AUTHENTICATE,
        say("cycle-request", (ASK % SPEEDS % "1.0").replace("<worker_id>", "w"), REFUSED),
    )
