import asyncio
import dataclasses

import numpy as np
import pytest
import torch

from fedplan.plan import Plan, PlanInputSpec, trace
from fedplan.wire import State, schema
from tests.grid.models import (
    MODEL,
    SHAPES,
    averaging_plan,
    base64_of,
    diff,
    hosting,
    iterative_plan,
    plan_for_two,
    state,
    training_plan,
)
from tests.shared import FIXTURES


def taking(*keys):
    """A Plan that takes these keys of the client_config, as hexadecimal digits."""
    specs = [PlanInputSpec(PlanInputSpec.TYPE_CLIENT_CONFIG_PARAM, key) for key in keys]
    examples = [torch.ones(1) for _ in keys]
    return trace(lambda *values: sum(values), *examples, inputs=specs).serialize().hex()


async def expect_refusal(peer, status, message, **changes):
    """The model is refused for a reason, and its name is still free."""
    reply = await peer.post("host-training", **hosting(**changes))
    assert reply.status_code == status
    assert set(reply.json()) == {"error"}
    assert message in reply.json()["error"]
    await peer.host()


async def test_a_model_can_be_hosted_and_waits_in_its_first_cycle(peer):
    await peer.host(server={"max_diffs": 3, "num_cycles": 5})
    model = await peer.status()
    assert (model["name"], model["version"], model["phase"]) == ("m", "1.0", "training")
    assert model["cycle"]["number"] == 1
    assert model["cycle"]["phase"] == "open"
    assert [checkpoint["number"] for checkpoint in model["checkpoints"]] == [1]
    for ours, hosted in zip(await peer.checkpoint(), MODEL, strict=True):
        np.testing.assert_array_equal(ours, hosted)


async def test_a_name_can_be_hosted_in_several_versions(peer):
    await peer.host(version="1.0")
    await peer.host(version="2.0")


async def test_a_name_and_version_can_be_hosted_once(peer):
    await peer.host()
    reply = await peer.post("host-training", **hosting())
    assert reply.status_code == 409
    assert reply.json() == {"error": "the model 'm' version '1.0' is hosted already; choose another version"}


async def test_of_several_who_host_one_name_at_once_one_gets_it(peer):
    replies = await asyncio.gather(*(peer.post("host-training", **hosting()) for _ in range(5)))
    assert sorted(reply.status_code for reply in replies) == [200, 409, 409, 409, 409]
    await (await peer.join()).report()


class TestTheModelIsRefused:
    @pytest.mark.parametrize("text", ["xyz", "abc", "00zz"])
    async def test_when_it_is_not_hexadecimal(self, peer, text):
        await expect_refusal(peer, 400, "the model cannot be hosted: it is not sent as hex", model=text)

    async def test_when_it_is_not_a_state(self, peer):
        await expect_refusal(peer, 400, "the model cannot be hosted:", model=b"\xff\xff\xff")

    async def test_when_it_has_no_tensors(self, peer):
        await expect_refusal(peer, 400, "a model without tensors", model=b"")

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    async def test_when_it_is_not_finite(self, peer, value):
        model = state(np.full((3, 2), value), np.zeros(2))
        await expect_refusal(peer, 400, "tensor 0 holds NaN or an infinite value", model=model)

    async def test_when_its_dtype_cannot_be_averaged(self, peer):
        await expect_refusal(peer, 400, "dtype bool", model=state([True], dtype="bool"))

    async def test_when_it_claims_more_than_it_holds(self, peer):
        tensor = schema.TorchTensor(
            contents_data=schema.TensorData(
                shape=schema.Shape(dims=[50_000, 50_000]), dtype="float32", contents_float32=b"\0" * 8
            )
        )
        model = schema.State(tensors=[schema.StateTensor(torch_tensor=tensor)]).encode()
        await expect_refusal(peer, 400, "tensor 0 of the State", model=model)


class TestAPlanIsRefused:
    async def test_when_there_is_none(self, peer):
        await expect_refusal(peer, 400, "'plans'", plans={})

    async def test_when_it_is_not_a_plan(self, peer):
        await expect_refusal(
            peer, 400, "the Plan 'p' cannot be hosted", plans={"p": "ffffff"}, server={"max_diffs": 1}
        )

    async def test_when_it_holds_an_unknown_operation(self, peer):
        plan = schema.Plan.decode(training_plan())
        plan.role.actions[0].command = "os.system"
        plans = {"p": plan.encode().hex()}
        await expect_refusal(peer, 400, "'os.system' is not one that a Plan may hold", plans=plans)

    async def test_when_it_trains_another_model(self, peer):
        model = state(np.ones((5, 2)), np.zeros(2))
        await expect_refusal(peer, 400, "the Plan 'training_plan' cannot be hosted", model=model)

    async def test_when_its_name_is_endless(self, peer):
        plans = {"p" * 201: training_plan().hex()}
        await expect_refusal(peer, 400, "its name must have 1 to 200 characters", plans=plans)

    async def test_when_its_name_would_write_entries_into_the_log(self, peer):
        plans = {"p\n2026-11-27 12:00:00 INFO all is well": training_plan().hex()}
        await expect_refusal(peer, 400, "it holds U+000A, which is not printed", plans=plans)

    @pytest.mark.parametrize("lr", [None, "0.1", True, [0.1, 0.2], {"start": 0.1}, 1e39])
    async def test_when_the_client_config_cannot_fill_its_inputs(self, peer, lr):
        await expect_refusal(peer, 400, "'rate'", plans={"p": taking("rate")}, client={"rate": lr})

    async def test_when_the_client_config_lacks_keys_that_it_takes(self, peer):
        message = "the Plan 'training_plan' needs 'lr', which is not there. Its keys are: name, version,"
        request = hosting()
        del request["client_config"]["lr"]
        reply = await peer.post("host-training", **request)
        assert reply.status_code == 400
        assert message in reply.json()["error"]
        await peer.host()  # the name is still free

    async def test_when_it_takes_several_keys_that_are_not_there(self, peer):
        plans = {"p": taking("rate", "momentum")}
        await expect_refusal(
            peer, 400, "needs 'rate', which is not there, and 'momentum', which", plans=plans
        )

    async def test_when_it_does_not_say_which_parameter_it_means(self, peer):
        plan = Plan.parse(training_plan())
        spec = PlanInputSpec(PlanInputSpec.TYPE_MODEL_PARAM)
        inputs = (*plan.inputs[:4], dataclasses.replace(plan.inputs[4], spec=spec))
        plans = {"p": dataclasses.replace(plan, inputs=inputs).serialize().hex()}
        await expect_refusal(peer, 400, "stands for modelParam without an index", plans=plans)

    async def test_but_not_when_workers_say_what_its_inputs_are(self, peer):
        plans = {"p": trace(lambda x: x * 2, torch.zeros(3)).serialize().hex()}
        request = hosting(plans=plans)
        del request["client_config"]["lr"]
        assert (await peer.post("host-training", **request)).json() == {"status": "success"}


class TestAProtocolIsRefused:
    async def test_when_it_is_not_a_protocol(self, peer):
        await expect_refusal(peer, 400, "the Protocol 'p' cannot be hosted", protocols={"p": "ffffff"})


class TestAConfigurationIsRefused:
    async def test_when_the_server_config_has_an_unknown_key(self, peer):
        await expect_refusal(peer, 400, "'max_worker' is not a key", server={"max_worker": 3})

    async def test_when_a_value_is_wrong(self, peer):
        await expect_refusal(peer, 400, "'num_cycles'", server={"num_cycles": 0})

    @pytest.mark.parametrize(
        ("key", "schedule", "why"),
        [
            (
                "lr",
                {"schedule": "step", "start": 0.1, "factor": 1e200},
                "'lr': its schedule gives 1e+199 in cycle 2",
            ),
            ("max_epochs", {"schedule": "values", "values": [1, 0, -1]}, "gives 0 in cycle 2"),
        ],
    )
    async def test_when_a_schedule_goes_wrong_in_a_later_cycle(self, peer, key, schedule, why):
        await expect_refusal(peer, 400, why, client={key: schedule})

    @pytest.mark.parametrize(
        ("server", "why"),
        [
            ({"strategy": {}}, "has no 'name'; there are "),
            ({"strategy": {"lr": 1}}, "has no 'name'; there are "),
            ({"weighting": "uniform", "untold_weight": 5}, "'untold_weight' has no effect"),
            ({"max_weight": 1, "untold_weight": 5}, "'untold_weight' (5) is more than 'max_weight' (1)"),
        ],
    )
    async def test_when_it_names_no_strategy_or_a_weight_without_effect(self, peer, server, why):
        await expect_refusal(peer, 400, why, server=server)

    async def test_when_fewer_workers_may_be_in_a_cycle_than_its_strategy_needs(self, peer):
        buffered = {"strategy": {"name": "fedbuff", "k": 3}}
        why = "fedbuff needs 3 reports, and 'max_workers' (2) lets no more"
        await expect_refusal(peer, 400, why, server={**buffered, "max_workers": 2})
        await peer.host("enough", server={**buffered, "max_workers": 3})

    async def test_when_minimum_and_maximum_contradict(self, peer):
        await expect_refusal(
            peer, 400, "min_diffs (3) is more than max_diffs (2)", server={"min_diffs": 3, "max_diffs": 2}
        )

    async def test_when_the_client_config_has_no_name(self, peer):
        await expect_refusal(peer, 400, "client_config: 'name'", client_config={"version": "1.0"})

    async def test_when_its_public_key_is_none_without_telling_the_secret(self, peer):
        server = {"authentication": {"secret": "hunter2", "pub_key": "x"}}
        reply = await peer.post("host-training", **hosting(server=server))
        assert reply.status_code == 400
        assert "pub_key" in reply.text
        assert "hunter2" not in reply.text

    async def test_when_an_iterative_plan_is_announced_and_not_sent(self, peer):
        await expect_refusal(peer, 400, "no averaging Plan was sent", server={"iterative_plan": True})


class TestAnAveragingPlan:
    async def test_that_is_iterative_is_taken(self, peer):
        await peer.host(server={"iterative_plan": True, "max_diffs": 3}, averaging_plan=iterative_plan())

    async def test_for_two_diffs_makes_every_cycle_one_of_two(self, peer):
        await peer.host(server={"cycle_length": 3600}, averaging_plan=plan_for_two())
        cycle = (await peer.status())["cycle"]
        assert (cycle["needed"], cycle["limit"]) == (2, 2)

    @pytest.mark.parametrize("key", ["min_diffs", "max_diffs"])
    async def test_for_two_diffs_is_refused_where_another_number_is_wanted(self, peer, key):
        wanted = {"min_diffs": 1, "max_diffs": 3}[key]
        message = f"'{key}' is {wanted}, but the averaging Plan was traced for 2 diffs"
        await expect_refusal(peer, 400, message, server={key: wanted}, averaging_plan=plan_for_two())

    async def test_for_two_diffs_is_refused_where_two_workers_cannot_be(self, peer):
        await expect_refusal(
            peer, 400, "max_workers (1)", server={"max_workers": 1}, averaging_plan=plan_for_two()
        )

    async def test_of_the_wrong_kind_is_refused(self, peer):
        await expect_refusal(
            peer,
            400,
            "5 inputs, which is no whole number of diffs",
            server={"max_diffs": 3},
            averaging_plan=iterative_plan(),
        )
        reply = await peer.post(
            "host-training", **hosting("n", server={"iterative_plan": True}, averaging_plan=plan_for_two())
        )
        assert reply.status_code == 400
        assert "takes 4 arguments (input 0, input 1, input 2, input 3), not 5" in reply.json()["error"]

    async def test_for_other_shapes_is_refused(self, peer):
        plan = trace(lambda a, b: (a, b), torch.zeros(9, 9), torch.zeros(2), pin_batch=True).serialize()
        await expect_refusal(peer, 400, "the averaging Plan cannot be hosted", averaging_plan=plan)

    async def test_that_returns_other_shapes_is_refused(self, peer):
        plan = averaging_plan(lambda a0, a1: (a0.sum(), a1.sum()), 2)
        await expect_refusal(
            peer, 400, "the averaging Plan cannot be hosted: it returns", averaging_plan=plan
        )

    async def test_that_is_no_plan_is_refused(self, peer):
        await expect_refusal(peer, 400, "the averaging Plan cannot be hosted", averaging_plan=b"\xff\xff")
        reply = await peer.post("host-training", **hosting("n", averaging_plan="zz"))
        assert reply.status_code == 400


@pytest.mark.skipif(not FIXTURES.exists(), reason="Plans made by PySyft are not here")
class TestWhatPySyftSends:
    def hosting(self, **changes):
        folder = FIXTURES / "small_mlp_sgd"
        inputs = State.parse((folder / "input.state.pb").read_bytes()).tensors
        plan = (folder / "as_sent_by_client.plan.pb").read_bytes()
        model = State.of(inputs[-4:]).serialize()
        return hosting("pysyft", plans={"training_plan": plan.hex()}, model=model, **changes)

    async def test_can_be_hosted_and_served_in_each_variant(self, peer):
        reply = await peer.post("host-training", **self.hosting())
        assert reply.json() == {"status": "success"}
        worker = await peer.join("pysyft")
        plan_id = worker.accepted["plans"]["training_plan"]
        for variant in ("list", "torchscript"):
            reply = await worker.get("get-plan", plan_id=plan_id, receive_operations_as=variant)
            assert reply.status_code == 200
            assert schema.Plan.decode(reply.content)

    @pytest.mark.parametrize(
        ("folder", "server"),
        [("avg_iterative", {"iterative_plan": True}), ("avg_noniterative_3", {})],
    )
    async def test_may_average(self, peer, folder, server):
        plan = (FIXTURES / folder / "as_sent_by_client.plan.pb").read_bytes()
        shapes = ((4, 3), (4,), (2, 4), (2,))
        model = state(*(np.ones(shape) for shape in shapes))
        simple = trace(lambda x: x * 2, torch.zeros(3)).serialize()
        await peer.host(
            model=model,
            plans={"p": simple.hex()},
            averaging_plan=plan,
            server={"min_diffs": 3, "max_diffs": 3, **server},
        )
        for value in (1.0, 2.0, 6.0):
            worker = await peer.join()
            reply = await worker.report(diff=base64_of(diff(value, shapes)))
            assert reply.status_code == 200
        await peer.until_checkpoint(2)
        for tensor in await peer.checkpoint():
            np.testing.assert_allclose(tensor, -2.0, atol=1e-6)


def test_the_shapes_of_these_tests_are_those_of_their_model():
    assert tuple(array.shape for array in MODEL) == SHAPES
