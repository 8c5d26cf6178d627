"""Plans that PySyft made, and which do not say what their inputs stand for, are trained all the same."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from fedplan.client import PlanTrainer, SyftModel
from fedplan.client.training.naming import inputs_by_name, inputs_by_nesting, outputs_by_name
from fedplan.errors import ConfigError
from fedplan.plan import Plan, PlanInputSpec, trace
from tests.plan.fixtures import FOLDER, needs_fixtures, state

NAMES = {
    "small_mlp_sgd": ["data", "target", "batch_size", "lr", "params"],
    "linreg_sgd": ["data", "target", "lr", "batch_size", "params"],
}


def pysyft(name: str) -> Plan:
    """A Plan as PySyft made it, read, written by fedplan, and read again, as it is that a worker gets it."""
    plan = Plan.parse((FOLDER / name / "list.plan.pb").read_bytes())
    return Plan.parse(plan.serialize())


def without_nesting(plan: Plan) -> Plan:
    return dataclasses.replace(plan, inputs=tuple(dataclasses.replace(i, argument=None) for i in plan.inputs))


def trainer(name: str, plan: Plan, **options: Any) -> PlanTrainer:
    """One step of a Plan on the very inputs of which PySyft's outputs are known."""
    inputs = state(FOLDER / name / "input.state.pb")
    arguments = dict(zip(NAMES[name][:4], inputs, strict=False))
    config = {"lr": arguments["lr"].item(), "batch_size": int(arguments["batch_size"].item())}
    return PlanTrainer(
        plan=plan,
        model=SyftModel(inputs[4:]),
        data=arguments["data"],
        target=arguments["target"],
        batch_size=config["batch_size"],
        client_config=config,
        **options,
    )


@needs_fixtures
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("told", ["nesting", "names", "names alone"])
async def test_a_plan_of_pysyft_trains_to_what_pysyft_computed(name: str, told: str) -> None:
    """Also `linreg_sgd`, whose learning rate stands before the batch size."""
    plan = without_nesting(pysyft(name)) if told == "names alone" else pysyft(name)
    losses: list[float | None] = []
    training = trainer(name, plan, inputs=None if told == "nesting" else NAMES[name])
    training.on("batch_end", lambda batch: losses.append(batch.loss))
    await training.start()
    expected = state(FOLDER / name / "expected_output.state.pb")
    assert losses == [pytest.approx(expected[0].item(), rel=1e-5)]
    trained = expected[-len(training.current_model.params) :]
    for ours, theirs in zip(training.current_model.params, trained, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@needs_fixtures
def test_how_the_arguments_were_taken_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "fedplan.client"):
        trainer("linreg_sgd", pysyft("linreg_sgd"))
    assert "taken as data, target, lr, batchSize, params" in caplog.text


@needs_fixtures
async def test_what_a_plan_returns_beside_loss_and_parameters_is_a_metric() -> None:
    metrics: list[dict[str, Any]] = []
    names = ["loss", "accuracy", "params"]
    for outputs in (None, names):
        training = trainer("small_mlp_sgd", pysyft("small_mlp_sgd"), outputs=outputs)
        training.on("batch_end", lambda batch: metrics.append(batch.metrics))
        await training.start()
    accuracy = state(FOLDER / "small_mlp_sgd" / "expected_output.state.pb")[1].item()
    assert metrics == [{"output 1": pytest.approx(accuracy)}, {"accuracy": pytest.approx(accuracy)}]


@needs_fixtures
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("conv_inference", "returns 1 values, and takes 4 parameters: it does not train them all"),
        ("state_func", "the parameters are not its one list"),
        ("bandit_values", "the parameters are not its one list"),
        (
            "avg_iterative",
            "they nest: a list of 4, a list of 4, a tensor; and the parameters are not its one",
        ),
        ("avg_noniterative_3", "a list of 12; and what comes first is not data"),
    ],
)
def test_a_plan_of_another_form_is_refused_with_advice(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PlanTrainer(plan=pysyft(name), model=SyftModel([torch.zeros(1)] * 4), data=torch.zeros(2, 3))


@needs_fixtures
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["data", "lr", "params"],
            "inputs name 3 arguments, .* takes 5: a tensor, a tensor, a tensor, a tensor",
        ),
        (["params", "data", "target", "lr", "batch_size"], "'batch_size' where .* takes a list of 4"),
        (["data", "target", "batch_size", "lr", "momentum"], "do not name 'params'"),
        (["data", "data", "batch_size", "lr", "params"], "name 'data' twice"),
        (["data", "target", "lr", "batch_size", "params"], r"depend the values \[0, 1, 2, 3, 4, 5\]"),
        (["data", "target", "batch_size", "rate", "params"], "needs 'rate', which is not there"),
    ],
)
def test_names_that_do_not_fit_the_plan_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        trainer("small_mlp_sgd", pysyft("small_mlp_sgd"), inputs=names)


@needs_fixtures
@pytest.mark.parametrize("tensors", [3, 5])
def test_a_plan_of_another_models_size_is_refused(tensors: int) -> None:
    with pytest.raises(ConfigError, match=f"takes 4 parameters, and the model has {tensors} tensors"):
        PlanTrainer(
            plan=pysyft("small_mlp_sgd"),
            model=SyftModel([torch.zeros(1)] * tensors),
            data=torch.zeros(2, 6),
            batch_size=2,
        )


@needs_fixtures
@pytest.mark.parametrize(
    ("outputs", "message"),
    [(["loss", "params"], "1 values beside 4 parameters, .* returns 6"), (["loss"], "name 'params' once")],
)
def test_output_names_that_do_not_fit_are_refused(outputs: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        trainer("small_mlp_sgd", pysyft("small_mlp_sgd"), outputs=outputs)


def plan_of(step: Any, *arguments: Any) -> Plan:
    """A Plan as PySyft would describe it: by how its arguments nest, and what it was made with."""
    flat: list[tuple[torch.Tensor, tuple[int, ...]]] = []
    for place, argument in enumerate(arguments):
        items = argument if isinstance(argument, list) else [argument]
        flat += [(t, (place, i) if argument is items else (place,)) for i, t in enumerate(items)]
    plan = trace(step, *(tensor for tensor, _ in flat))
    inputs = [
        dataclasses.replace(item, shape=None, dtype=None, made_with=tuple(tensor.shape), argument=path)
        for item, (tensor, path) in zip(plan.inputs, flat, strict=True)
    ]
    return dataclasses.replace(plan, inputs=tuple(inputs))


X, Y, ONE, W = torch.zeros(4, 3), torch.zeros(4), torch.ones(1), torch.ones(3)


def test_without_targets_or_a_batch_size_there_are_data_and_a_rate() -> None:
    plan = plan_of(lambda x, lr, w: ((x * w).sum(), w - lr * x.sum(0)), X, ONE, [W])
    kinds = [(spec.type, spec.name) for spec in inputs_by_nesting(plan) or []]
    rate = (PlanInputSpec.TYPE_CLIENT_CONFIG_PARAM, "lr")
    assert kinds == [("data", None), rate, ("modelParam", None)]


@pytest.mark.parametrize(
    "step",
    [
        lambda x, y, a, b, w: ((x * w).sum() + y.sum(), w - a * b * x.sum(0)),  # two rates
        lambda x, y, a, b, w: ((x * w).sum() * a * b + y.sum(), w - x.sum(0)),  # none, and two numbers
    ],
)
def test_numbers_that_cannot_be_told_apart_are_refused(step: Any) -> None:
    with pytest.raises(ConfigError, match="nothing tells its learning rate from a batch size"):
        inputs_by_nesting(plan_of(step, X, Y, ONE, ONE, [W]))


def test_targets_of_a_batch_of_one_are_not_taken_for_a_number() -> None:
    plan = plan_of(lambda x, y, n, lr, w: ((x * w).sum() / n, w - lr * y), X, ONE, ONE, ONE, [W])
    with pytest.raises(ConfigError, match="nothing tells its learning rate"):
        inputs_by_nesting(plan)


def test_three_tensors_before_the_numbers_are_refused() -> None:
    plan = plan_of(lambda x, y, z, lr, w: (x.sum() + y.sum() + z.sum(), w - lr), X, Y, X, ONE, [W])
    with pytest.raises(ConfigError, match="not data, targets and then numbers"):
        inputs_by_nesting(plan)


def test_a_plan_without_lists_gives_params_what_the_other_names_leave() -> None:
    plan = plan_of(lambda x, lr, v, w: (x.sum(), v - lr, w - lr), X, ONE, W, W)
    specs = inputs_by_name(plan, ["data", "lr", "params"])
    assert [spec.index for spec in specs] == [None, None, 0, 1]
    outputs = outputs_by_name(plan, ["loss", "params"], 2)
    assert [(spec.type, spec.index) for spec in outputs] == [
        ("loss", None),
        ("modelParam", 0),
        ("modelParam", 1),
    ]


def test_fewer_inputs_than_names_are_refused() -> None:
    plan = plan_of(lambda x, w: (x.sum(), w * 2), X, W)
    with pytest.raises(ConfigError, match=r"inputs name 4 arguments, .* takes 2"):
        inputs_by_name(plan, ["data", "target", "lr", "params"])


@needs_fixtures
def test_the_fixtures_are_what_pysyft_sends() -> None:
    assert Path(FOLDER / "linreg_sgd" / "as_sent_by_client.plan.pb").is_file()
    sent = Plan.parse((FOLDER / "linreg_sgd" / "as_sent_by_client.plan.pb").read_bytes())
    assert inputs_by_nesting(sent) == inputs_by_nesting(pysyft("linreg_sgd"))
