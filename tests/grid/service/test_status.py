from fedplan.grid.store import catalogue
from fedplan.grid.store.overview import CHECKPOINTS_SHOWN
from fedplan.wire.messages import ModelStatus, StatusReply
from tests.grid.golden.hosted import plan


async def test_an_empty_grid_hosts_nothing(peer):
    reply = await peer.http.get("/model-centric/status")
    assert reply.json() == {"models": []}


async def test_the_status_tells_of_models_cycles_and_checkpoints(open_grid):
    async with open_grid(clock=lambda: 1000.0) as peer:
        await peer.host(server={"cycle_length": 60, "min_diffs": 2, "max_diffs": 5, "num_cycles": 7})
        await (await peer.join()).report(1)
        await peer.join()
        assert await peer.status() == {
            "name": "m",
            "version": "1.0",
            "phase": "training",
            "num_cycles": 7,
            "cycle": {
                "number": 1,
                "task": "training",
                "phase": "open",
                "accepted": 2,
                "reported": 1,
                "needed": 2,
                "limit": 5,
                "opened_at": "1970-01-01T00:16:40Z",
                "closes_at": "1970-01-01T00:17:40Z",
            },
            "checkpoints": [{"number": 1, "created_at": "1970-01-01T00:16:40Z"}],
            "plans": [{"name": "training_plan", "variants": [{"variant": "list"}]}],
            "withheld": [
                {"client": client, "why": [f"the Plan 'training_plan' is not hosted as {variant}"]}
                for client, variant in (
                    ("KotlinSyft", "torchscript"),
                    ("SwiftSyft", "torchscript"),
                    ("syft.js", "tfjs"),
                )
            ],
        }


async def test_the_status_tells_how_exact_each_variant_is(peer):
    tags = ("#fedplan-error:torchscript:0", "#fedplan-error:tfjs:2.4e-07")
    plans = {"training_plan": plan(tags=tags).hex(), "metrics": plan(("tfjs",), tags[1:]).hex()}
    await peer.host(plans=plans)
    await peer.host("n")
    model = await peer.status()
    assert model["plans"] == [
        {
            "name": "training_plan",
            "variants": [
                {"variant": "list"},
                {"variant": "torchscript", "error": 0.0},
                {"variant": "tfjs", "error": 2.4e-07},
            ],
        },
        {"name": "metrics", "variants": [{"variant": "list"}, {"variant": "tfjs", "error": 2.4e-07}]},
    ]
    why = ["the Plan 'metrics' is not hosted as torchscript"]
    assert model["withheld"] == [{"client": client, "why": why} for client in ("KotlinSyft", "SwiftSyft")]


async def test_the_status_of_an_older_grid_is_read_too(peer):
    await peer.host()
    older = {key: value for key, value in (await peer.status()).items() if key not in ("plans", "withheld")}
    model = ModelStatus.model_validate(older)
    assert model.plans == model.withheld == []


async def test_the_status_is_what_the_client_reads(peer):
    await peer.host()
    reply = await peer.http.get("/model-centric/status")
    (model,) = StatusReply.model_validate_json(reply.content).models
    assert model.cycle.closes_at is None
    assert model.checkpoints[0].created_at.tzinfo is not None


async def test_models_are_listed_by_name_and_age(peer):
    for name, version in (("b", "1"), ("a", "2"), ("a", "1")):
        await peer.host(name, version)
    models = (await peer.http.get("/model-centric/status")).json()["models"]
    assert [(model["name"], model["version"]) for model in models] == [("a", "2"), ("a", "1"), ("b", "1")]
    models = (await peer.http.get("/model-centric/status", params={"name": "a"})).json()["models"]
    assert [model["version"] for model in models] == ["2", "1"]


async def test_a_model_that_is_not_hosted_is_not_found(peer):
    reply = await peer.http.get("/model-centric/status", params={"name": "x"})
    assert reply.status_code == 404
    told = "this grid hosts no model 'x'; `fedplan status` lists what it hosts"
    assert reply.json() == {"error": told}


async def test_only_the_newest_checkpoints_are_listed(peer):
    await peer.host()
    store = peer.app.state.grid.store
    async with store.writing() as db:
        for number in range(2, CHECKPOINTS_SHOWN + 11):
            await catalogue.add_checkpoint(db, 1, number, "models/none", 0.0)
    numbers = [checkpoint["number"] for checkpoint in (await peer.status())["checkpoints"]]
    assert numbers == list(range(CHECKPOINTS_SHOWN + 10, 10, -1))


async def test_the_status_tells_no_secrets(peer):
    await peer.host(server={"max_diffs": 1, "authentication": {"secret": "hunter2" * 5}})
    assert "hunter2" not in (await peer.http.get("/model-centric/status")).text
