"""syft.js as its repository has it after 0.1.4 (commit 2061eb7), in a browser.

`Job.start` authenticates, once a job. Over WebSocket it finds answers by the `request_id` alone. Its sockets
for peers send a `socket-ping` every 20 seconds. Over HTTP it is the published version.
"""

from . import hosted
from .browser import FRAGMENTS, OPEN
from .replay import ACCEPTED, AUTHENTICATED, REFUSED, REJECTED, REPORTED, Say
from .test_syftjs_published import AUTHENTICATE, CYCLE, DOWNLOAD, REPORT, SPEEDS

IDS = iter(f"{number:02}Sy7vRJtRpPIMkJ8QUhuXWzCkF6mDlLJ0zw3NSJt2I=" for number in range(100))


def say(call, data, hear, **options):
    id, type = next(IDS), f"model-centric/{call}"
    text = f'{{"request_id":"{id}","type":"{type}","data":{data}}}'
    return Say(text, {"request_id": id, "type": type, "data": hear}, **options)


KEEP_ALIVE = Say('{"type":"socket-ping","data":{}}', {"type": "socket-ping", "data": {}})

JOIN = [
    OPEN,
    KEEP_ALIVE,
    say("authenticate", AUTHENTICATE, AUTHENTICATED),
    say("cycle-request", CYCLE % SPEEDS, ACCEPTED),
]


async def test_over_a_socket(grid):
    name = await grid.hears(
        *JOIN, *DOWNLOAD, KEEP_ALIVE, say("report", REPORT, REPORTED), KEEP_ALIVE, max_diffs=1
    )
    hosted.holds_trained_parameters(await grid.trained(name))


async def test_reports_over_a_new_socket_after_the_old_one_dropped(grid):
    name = await grid.hears(*JOIN, OPEN, KEEP_ALIVE, say("report", REPORT, REPORTED), max_diffs=1)
    hosted.holds_trained_parameters(await grid.trained(name))


async def test_reports_a_model_of_more_than_a_megabyte_in_fragments(grid):
    report = say("report", REPORT, REPORTED, fragments=FRAGMENTS)
    await grid.trained(await grid.hears(*JOIN, report, large=True, max_diffs=1))


async def test_is_rejected_and_refused(grid):
    await grid.hears(
        *JOIN,
        say("authenticate", AUTHENTICATE, AUTHENTICATED),
        say("cycle-request", CYCLE % SPEEDS, REJECTED),
        say("cycle-request", (CYCLE % SPEEDS).replace("<worker_id>", "w"), REFUSED),
        say("report", REPORT.replace("<request_key>", "x"), REFUSED),
        max_workers=1,
        cycle_length=3600,
    )
