import pytest

from tests.grid.web.dashboard.conftest import OWNER, Page

CONFIG = {"max_diffs": 2, "num_cycles": 3, "cycle_length": 600}


async def there(visitor, name):
    return await visitor.open(f"model?name={name}&version=1.0")


async def act(visitor, action, name, status=303, **fields):
    return await visitor.send("do", status, do=action, name=name, version="1.0", **fields)


async def test_a_model_is_paused_and_resumed(visitor):
    await visitor.host("pausing", server=CONFIG)

    reply = await act(visitor, "pause", "pausing")

    page = await visitor.open(reply.headers["location"])
    assert "The model is paused: no worker joins it" in page.text
    assert "its owner has paused it" in page.text
    assert [one.get("id") for one in page.all("button")].count("do-resume") == 1
    await act(visitor, "resume", "pausing")
    assert (await visitor.status("pausing")).get("paused") is None


async def test_what_was_done_stands_in_the_events_with_who_did_it(visitor):
    await visitor.host("noted", server=CONFIG)
    await act(visitor, "pause", "noted")
    assert "paused" in (await visitor.open("events?name=noted")).text


async def test_a_training_is_extended_by_cycles_and_by_time(visitor):
    await visitor.host("longer", server=CONFIG)
    before = (await visitor.status("longer"))["cycle"]["closes_at"]

    await act(visitor, "extend", "longer", cycles="2")
    await act(visitor, "extend", "longer", seconds="600")

    model = await visitor.status("longer")
    assert model["num_cycles"] == 5
    assert model["cycle"]["closes_at"] > before


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "it needs a number of cycles, or seconds for the open one"),
        ({"cycles": "many"}, "'cycles' must be a number"),
        ({"cycles": "1.5"}, "'cycles' must be a number"),
        ({"cycles": "-1"}, "'cycles': Input should be greater than or equal to 1"),
        ({"seconds": "nan"}, "'seconds'"),
    ],
)
async def test_what_the_api_refuses_is_refused_with_its_words(visitor, fields, why):
    await visitor.host(f"refuses {fields}", server=CONFIG)
    page = Page(await act(visitor, "extend", f"refuses {fields}", 400, **fields))
    assert page.all("main")
    assert why in page.text


async def test_stopping_is_asked_for_first_and_says_what_it_does(visitor):
    await visitor.host("stops", server=CONFIG)
    page = await visitor.open("confirm?do=stop&name=stops&version=1.0")
    assert "Stop the training? stops 1.0" in page.text
    assert page.field("do") == "stop"

    await act(visitor, "stop", "stops")

    assert (await visitor.status("stops"))["phase"] == "finished"


async def test_a_model_is_deleted_while_its_cycle_is_open_only_if_that_is_said(visitor):
    await visitor.host("goes", server=CONFIG)
    assert "would be lost" in (await act(visitor, "delete", "goes", 409)).text

    reply = await act(visitor, "delete", "goes", force="yes")

    assert "The model is deleted." in (await visitor.open(reply.headers["location"])).text
    await visitor.open("model?name=goes&version=1.0", 404)


async def test_older_checkpoints_are_promoted_and_gone_back_to(visitor):
    await visitor.host("back", server={"max_diffs": 1, "num_cycles": 9})
    for number in (2, 3):
        await (await visitor.join("back")).report(1)
        await visitor.until_checkpoint(number, "back")
    assert "Roll back to checkpoint 2" in (await there(visitor, "back")).text

    await act(visitor, "promote", "back", checkpoint="2")
    assert "a copy of 2" in (await there(visitor, "back")).text
    await act(visitor, "rollback", "back", checkpoint="1")

    page = await there(visitor, "back")
    assert "a copy of 1" in page.text
    assert "cycle 2, dropped" in page.text


async def test_an_unknown_action_is_not_there(visitor):
    await act(visitor, "explode", "m", 404)
    await visitor.open("confirm?do=explode", 404)


async def test_who_may_only_look_sees_no_action_and_can_do_none(stranger):
    await stranger.sign_in(OWNER)
    reply = await stranger.send("tokens", 200, name="only looks", scope="observe", days="7")
    token = "fedplan_" + reply.text.partition(">fedplan_")[2].partition("<")[0]
    headers = {"authorization": f"Bearer {OWNER}"}
    stranger.http.headers.update(headers)
    await stranger.host("guarded", server=CONFIG)
    del stranger.http.headers["authorization"]
    await stranger.send("logout")
    await stranger.sign_in(token)

    page = await there(stranger, "guarded")

    assert "Pause" not in page.text
    assert "Download" not in page.text
    for action in ("pause", "stop", "delete"):
        assert "and this needs 'host'" in Page(await act(stranger, action, "guarded", 403)).text
    await stranger.open("confirm?do=stop&name=guarded&version=1.0", 403)
