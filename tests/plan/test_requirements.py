"""What a Plan's specs ask for is known before anybody trains."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedplan.errors import ConfigError, PlanExecutionError, PlanInputError
from fedplan.plan import Plan, PlanInputSpec, PlanOutputSpec, trace, training_plan
from fedplan.plan.requirements import check_client_config, check_specs, config_value, refusal_of_rows

given, made = PlanInputSpec, PlanOutputSpec
NAMED = {"name": "m", "version": "1"}


def plan_of(*kinds: PlanInputSpec, examples: list[Tensor] | None = None) -> Plan:
    """A Plan with one parameter, and with these inputs beside it."""
    rest = examples or [torch.ones(1) for _ in kinds]
    return trace(
        lambda w, *values: [w + sum(value.sum() for value in values)],
        torch.zeros(2),
        *rest,
        name="p",
        inputs=[given(given.TYPE_MODEL_PARAM, index=0), *kinds],
        outputs=[made(made.TYPE_MODEL_PARAM, index=0)],
    )


def taking(key: str, example: Tensor | None = None) -> Plan:
    example = torch.ones(1) if example is None else example
    return plan_of(given(given.TYPE_CLIENT_CONFIG_PARAM, key), examples=[example])


class TestAClientConfig:
    @pytest.mark.parametrize("parsed", [False, True])
    def test_must_hold_every_key_that_the_plan_takes(self, parsed: bool) -> None:
        keys = ("lr", "momentum", "decay")
        plan = plan_of(*(given(given.TYPE_CLIENT_CONFIG_PARAM, key) for key in keys))
        plan = Plan.parse(plan.serialize()) if parsed else plan
        check_client_config(plan, {**NAMED, "lr": 0.1, "momentum": 0, "decay": 1e-4})
        with pytest.raises(ConfigError) as error:
            check_client_config(plan, {**NAMED, "momentum": 0.9, "decay": None})
        assert str(error.value).startswith(
            "client_config: the Plan 'p' needs 'lr', which is not there, and 'decay', which is null. Its "
            "keys are: name, version, momentum, decay. "
        )

    @pytest.mark.parametrize("value", [0.1, 1, 0, -2.5, [0.5]])
    def test_may_hold_what_becomes_the_input(self, value: Any) -> None:
        check_client_config(taking("rate"), {"rate": value})

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("0.1", "'rate' as a number or a list of numbers, and it is a str"),
            (True, "and it is a bool"),
            ({"a": 1}, "and it is a dict"),
            ([0.1, 0.2], r"the shape \(2\), the Plan needs \(1\)"),
            ([], "whose value does not fit"),
            ([[0.1], [0.2, 0.3]], "whose value does not fit"),
            (["a"], "whose value does not fit"),
            ([None], "whose value does not fit"),
            (10**400, "whose value does not fit"),
            ([10**400], "whose value does not fit"),
            (1e39, "'rate' as a finite number of the dtype float32"),
        ],
    )
    def test_must_not_hold_anything_else(self, value: Any, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            check_client_config(taking("rate"), {"rate": value})

    def test_holds_whole_numbers_where_the_plan_needs_them(self) -> None:
        plan = taking("steps", torch.tensor([3]))
        check_client_config(plan, {"steps": 3})
        for value in (2.5, [2.5], 2**70):
            with pytest.raises(ConfigError, match="'steps', whose value does not fit"):
                check_client_config(plan, {"steps": value})

    def test_holds_lists_where_the_plan_needs_several_numbers(self) -> None:
        plan = taking("weights", torch.ones(3))
        check_client_config(plan, {"weights": [1, 2, 3]})
        for value in (1.0, [1.0, 2.0]):
            with pytest.raises(ConfigError, match="'weights', whose value does not fit"):
                check_client_config(plan, {"weights": value})

    def test_holds_nothing_for_a_plan_that_does_not_say_what_it_takes(self) -> None:
        check_client_config(trace(lambda x: x + 1, torch.zeros(2)), {})

    def test_needs_no_batch_size_since_workers_may_have_their_own(self) -> None:
        check_client_config(plan_of(given(given.TYPE_DATA), given(given.TYPE_BATCH_SIZE)), {})

    def test_gives_a_worker_what_was_checked(self) -> None:
        (_, item), spec = taking("w", torch.ones(3)).inputs, given(given.TYPE_CLIENT_CONFIG_PARAM, "w")
        value = config_value(item, spec, {"w": [1, 2, 3]})
        assert torch.equal(item.tensor(value), torch.tensor([1.0, 2.0, 3.0]))
        with pytest.raises(ConfigError, match=r"needs 'w', which is not there.* keys are: none"):
            config_value(item, spec, {})


class TestSpecs:
    def test_of_a_training_plan_fit_its_model(self) -> None:
        plan = training_plan(
            nn.Linear(4, 2),
            nn.functional.cross_entropy,
            example=(torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64)),
            optimizer=torch.optim.Adam,
        )
        check_specs(plan, 2)
        check_specs(Plan.parse(plan.serialize()), 2)
        with pytest.raises(PlanInputError, match="modelParam 1, and the model has only 1"):
            check_specs(plan, 1)

    @pytest.mark.parametrize("index", [None, 1, -1])
    @pytest.mark.parametrize("parsed", [False, True])
    def test_must_say_which_parameter_they_mean(self, index: int | None, parsed: bool) -> None:
        plan = plan_of(given(given.TYPE_MODEL_PARAM, index=index), examples=[torch.zeros(2)])
        plan = Plan.parse(plan.serialize()) if parsed else plan
        with pytest.raises(PlanInputError, match="input 1 of the Plan 'p' stands for modelParam"):
            check_specs(plan, 1)

    @pytest.mark.parametrize("index", [None, 1])
    def test_of_outputs_must_say_it_too(self, index: int | None) -> None:
        plan = plan_of()
        output = dataclasses.replace(plan.outputs[0], spec=made(made.TYPE_MODEL_PARAM, index=index))
        with pytest.raises(PlanInputError, match="output 0 of the Plan 'p' stands for modelParam"):
            check_specs(dataclasses.replace(plan, outputs=(output,)), 1)

    @pytest.mark.parametrize("indices", [(0, 2), (None,), (1,)])
    def test_of_the_optimizers_state_are_numbered_from_0(self, indices: tuple[int | None, ...]) -> None:
        plan = plan_of(*(given(given.TYPE_OPTIMIZER_STATE, index=index) for index in indices))
        with pytest.raises(PlanInputError, match="stands for optimizerState"):
            check_specs(plan, 1)

    def test_of_the_optimizers_state_need_a_shape(self) -> None:
        plan = plan_of(given(given.TYPE_OPTIMIZER_STATE, index=0))
        check_specs(plan, 1)
        shapeless = dataclasses.replace(plan.inputs[1], shape=None)
        with pytest.raises(PlanInputError, match="the Plan must say its whole shape"):
            check_specs(dataclasses.replace(plan, inputs=(plan.inputs[0], shapeless)), 1)

    def test_that_hold_a_value_do_not_travel(self) -> None:
        plan = plan_of(given(given.TYPE_VALUE, value=3.0))
        for form in (plan, Plan.parse(plan.serialize())):
            with pytest.raises(PlanInputError, match="a value, which does not travel with a Plan"):
                check_specs(form, 1)


def step_with(layer: nn.Module, image: bool = False) -> Plan:
    layers: list[nn.Module] = [nn.Linear(6, 8), layer, nn.Linear(8, 3)]
    x = torch.zeros(4, 6)
    if image:
        layers = [nn.Conv2d(1, 2, 3), layer, nn.Flatten(), nn.Linear(8, 3)]
        x = torch.zeros(4, 1, 4, 4)
    example = (x, torch.zeros(4, dtype=torch.int64))
    return training_plan(nn.Sequential(*layers), nn.functional.cross_entropy, example=example)


class TestABatchOfOneSample:
    @pytest.mark.parametrize("layer", [nn.BatchNorm1d(8), nn.BatchNorm1d(8, track_running_stats=False)])
    def test_cannot_be_normalised_over(self, layer: nn.Module) -> None:
        plan = step_with(layer)
        reason = refusal_of_rows(plan, 1) or ""
        assert "_native_batch_norm_legit" in reason
        assert "test_requirements.py" in reason
        assert "fewer than two values per channel" in reason
        assert "drop_last=True" in reason
        assert refusal_of_rows(plan, 2) is None

    def test_is_refused_when_the_plan_runs(self) -> None:
        plan = step_with(nn.BatchNorm1d(8))
        shapes = [item.shape or () for item in plan.inputs[3:]]
        state = [torch.zeros([extent or 0 for extent in shape]) for shape in shapes]
        with pytest.raises(PlanExecutionError, match=r"the shape \(1, 8\) has fewer than two values per"):
            plan(torch.zeros(1, 6), torch.zeros(1, dtype=torch.int64), 0.1, *state)

    @pytest.mark.parametrize("layer", [nn.BatchNorm1d(8).eval(), nn.LayerNorm(8), nn.ReLU()])
    def test_can_be_trained_on_by_others(self, layer: nn.Module) -> None:
        assert refusal_of_rows(step_with(layer), 1) is None

    def test_can_be_normalised_over_its_pixels(self) -> None:
        assert refusal_of_rows(step_with(nn.BatchNorm2d(2), image=True), 1) is None

    def test_is_not_what_is_wrong_with_a_plan_that_runs_on_no_batch(self) -> None:
        plan = trace(lambda x: x[:, :2] @ torch.ones(2), torch.zeros(4, 3), inputs=[given(given.TYPE_DATA)])
        narrow = dataclasses.replace(plan.inputs[0], shape=(None, 1))
        assert refusal_of_rows(dataclasses.replace(plan, inputs=(narrow,)), 1) is None

    def test_is_not_judged_where_a_plan_does_not_say_its_shapes(self) -> None:
        plan = step_with(nn.BatchNorm1d(8))
        shapeless = dataclasses.replace(plan.inputs[0], shape=None)
        assert refusal_of_rows(dataclasses.replace(plan, inputs=(shapeless, *plan.inputs[1:])), 1) is None
