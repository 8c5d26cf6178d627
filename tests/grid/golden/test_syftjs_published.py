"""syft.js 0.1.4, as npm has it, in a browser.

`newJob` authenticates, once for all jobs of a client. Without a speed test it sends zeros. Over WebSocket it
finds answers by their type. Plans, models and the speed test go over HTTP also when the URL is ws://.
"""

import pytest

from . import hosted
from .browser import FRAGMENTS, OPEN, get, post, read, upload
from .replay import (
    ACCEPTED,
    ASKED_FOR_SPEED,
    AUTHENTICATED,
    REFUSED,
    REJECTED,
    REJECTED_FOR_GOOD,
    REPORTED,
    Say,
    Together,
)

SPEED_TEST = "speed-test?worker_id=<worker_id>&random=0.8147236863931789"
NOTHING = read(200, {})

AUTHENTICATE = '{"model_name":"<model>","model_version":"1.0"}'
SPEEDS = '"ping":0,"download":0,"upload":0'
CYCLE = '{"worker_id":"<worker_id>","model":"<model>","version":"1.0",%s}'
REPORT = '{"worker_id":"<worker_id>","request_key":"<request_key>","diff":"<diff>"}'
KEYS = "worker_id=<worker_id>&request_key=<request_key>"


def over_http(base="/", speeds=SPEEDS):
    """A whole cycle; `base` is the path of the grid's URL, as the page's author wrote it."""
    at = f"{base}model-centric"
    return [
        *post(f"{at}/authenticate", AUTHENTICATE, read(200, AUTHENTICATED)),
        *post(f"{at}/cycle-request", CYCLE % speeds, read(200, ACCEPTED)),
        get(f"{at}/get-model?{KEYS}&model_id=<model_id>", read(200, hosted.is_the_model)),
        get(f"{at}/get-plan?{KEYS}&plan_id=<plan_id>&receive_operations_as=tfjs", read(200, hosted.is_tfjs)),
        *post(f"{at}/report", REPORT, read(200, REPORTED)),
    ]


def say(call, data, hear, **options):
    """A message with neither more nor less than type and data, and its answer."""
    type = f"model-centric/{call}"
    return Say(f'{{"type":"{type}","data":{data}}}', {"type": type, "data": hear}, **options)


JOIN = [
    OPEN,
    say("authenticate", AUTHENTICATE, AUTHENTICATED),
    say("cycle-request", CYCLE % SPEEDS, ACCEPTED),
]

DOWNLOAD = [
    get(f"/model-centric/get-model?{KEYS}&model_id=<model_id>", read(200, hosted.is_the_model)),
    get(
        f"/model-centric/get-plan?{KEYS}&plan_id=<plan_id>&receive_operations_as=tfjs",
        read(200, hosted.is_tfjs),
    ),
]


@pytest.mark.parametrize("base", ["/", "//"])
async def test_over_http(grid, base):
    name = await grid.hears(*over_http(base), max_diffs=1)
    hosted.holds_trained_parameters(await grid.trained(name))


async def test_over_a_socket(grid):
    name = await grid.hears(*JOIN, *DOWNLOAD, say("report", REPORT, REPORTED), max_diffs=1)
    hosted.holds_trained_parameters(await grid.trained(name))


async def test_reports_over_a_new_socket_after_the_old_one_dropped(grid):
    name = await grid.hears(*JOIN, OPEN, say("report", REPORT, REPORTED), max_diffs=1)
    hosted.holds_trained_parameters(await grid.trained(name))


async def test_reports_a_model_of_more_than_a_megabyte_in_fragments(grid):
    report = say("report", REPORT, REPORTED, fragments=FRAGMENTS)
    name = await grid.hears(*JOIN, report, large=True, max_diffs=1)
    assert (await grid.trained(name))[0].shape == hosted.LARGE[0]


async def test_reports_a_model_of_more_than_a_megabyte_over_http(grid):
    at = "/model-centric"
    name = await grid.hears(
        *post(f"{at}/authenticate", AUTHENTICATE, read(200, AUTHENTICATED)),
        *post(f"{at}/cycle-request", CYCLE % SPEEDS, read(200, ACCEPTED)),
        *post(f"{at}/report", REPORT, read(200, REPORTED)),
        large=True,
        max_diffs=1,
    )
    await grid.trained(name)


async def test_measures_its_speed(grid):
    """The ping and the download have a second question mark; a fast link leaves nothing of the upload."""
    at = "/model-centric"
    speeds = '"ping":1.8333333333333333,"download":874.0911949685535,"upload":0'
    download = get(f"{at}/{SPEED_TEST}?0.9057919370756192", read(200, hosted.is_as_large_as_the_speed_test))
    preflight, uploaded = upload(f"{at}/{SPEED_TEST}", bytes(64 * 1024 * 1024), NOTHING)
    name = await grid.hears(
        *post(f"{at}/authenticate", AUTHENTICATE, read(200, ASKED_FOR_SPEED)),
        *[get(f"{at}/speed-test?is_ping=1&{SPEED_TEST[11:]}?0.1269868{n}", NOTHING) for n in range(6)],
        preflight,
        Together([download, uploaded]),
        *post(f"{at}/cycle-request", CYCLE % speeds, read(200, ACCEPTED)),
        *post(f"{at}/report", REPORT, read(200, REPORTED)),
        max_diffs=1,
        minimum_upload_speed=10,
        minimum_download_speed=10,
    )
    hosted.holds_trained_parameters(await grid.trained(name))


async def test_is_rejected(grid):
    at = "/model-centric"
    await grid.hears(
        *JOIN,
        say("authenticate", AUTHENTICATE, AUTHENTICATED),
        say("cycle-request", CYCLE % SPEEDS, REJECTED),
        *post(f"{at}/cycle-request", CYCLE % SPEEDS, read(200, REJECTED)),
        max_workers=1,
        cycle_length=3600,
    )


async def test_is_rejected_for_good_by_a_finished_model(grid):
    name = await grid.hears(*over_http(), max_diffs=1, num_cycles=1)
    await grid.trained(name)
    at = "/model-centric"
    late = [
        *post(f"{at}/authenticate", AUTHENTICATE, read(200, AUTHENTICATED)),
        *post(f"{at}/cycle-request", CYCLE % SPEEDS, read(200, REJECTED_FOR_GOOD)),
        OPEN,
        say("cycle-request", CYCLE % SPEEDS, REJECTED_FOR_GOOD),
    ]
    await grid.hears(*late, known={"model": name})


async def test_is_told_at_once_that_it_cannot_run_a_plan(grid):
    at = "/model-centric"
    name = await grid.hears(
        *post(f"{at}/authenticate", AUTHENTICATE, read(200, AUTHENTICATED)),
        *post(f"{at}/cycle-request", CYCLE % SPEEDS, read(200, REJECTED_FOR_GOOD)),
        OPEN,
        say("authenticate", AUTHENTICATE, AUTHENTICATED),
        say("cycle-request", CYCLE % SPEEDS, REJECTED_FOR_GOOD),
        parts=hosted.hosted_as("torchscript"),
    )
    assert await grid.withheld_from(name) == ["syft.js"]


async def test_is_refused(grid):
    at = "/model-centric"
    unknown = '{"model_name":"nothing","model_version":"1.0"}'
    made_up = '{"worker_id":"w","model":"<model>","version":"1.0","ping":0,"download":0,"upload":0}'
    garbage = REPORT.replace("<diff>", "<diff>!")
    await grid.hears(
        *post(f"{at}/authenticate", unknown, read(404, REFUSED)),
        *post(f"{at}/cycle-request", made_up, read(401, REFUSED)),
        *JOIN,
        *post(f"{at}/report", garbage, read(400, REFUSED)),
        get(f"{at}/get-model?{KEYS}&model_id=0", read(404, REFUSED)),
        get(f"{at}/get-model?worker_id=<worker_id>&request_key=x&model_id=<model_id>", read(403, REFUSED)),
        say("authenticate", unknown, REFUSED),
        say("cycle-request", made_up, REFUSED),
        say("report", garbage, REFUSED),
        say("report", REPORT, REPORTED),
        say("report", REPORT, REPORTED),  # the same again changes nothing
        max_diffs=2,
    )


async def test_trains_a_second_model_with_the_worker_id_of_the_first(grid):
    """One client, two calls of `newJob`: only the first authenticates."""
    first = await grid.hears(*JOIN, say("report", REPORT, REPORTED), max_diffs=1)
    second = await grid.host(max_diffs=1)
    await grid.trained(first)
    other = {key: "<second>" if value == "<model>" else value for key, value in ACCEPTED.items()}
    other["client_config"] = ACCEPTED["client_config"] | {"name": "<second>"}
    await grid.hears(
        OPEN,
        say("authenticate", AUTHENTICATE, AUTHENTICATED),
        say("cycle-request", (CYCLE % SPEEDS).replace("<model>", "<second>"), other),
        say("report", REPORT, REPORTED),
        known={"second": second},
    )
    hosted.holds_trained_parameters(await grid.trained(second))
