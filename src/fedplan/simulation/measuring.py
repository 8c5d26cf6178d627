"""The model measured on data of its owner, after a round."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from fedplan.client.model import SyftModel
from fedplan.client.training.batches import check_data
from fedplan.client.training.checkpoint import RandomState
from fedplan.client.training.training import Training
from fedplan.errors import ConfigError
from fedplan.plan import Plan, PlanInputSpec, RandomStream
from fedplan.simulation.deployment import Deployment
from fedplan.wire.messages import EVALUATION_PLAN, MetricStatus

Tester = Callable[[SyftModel, int], Mapping[str, MetricStatus]]
"""(the model, number of the round) → its metrics by name."""

TEST = "test_"
"""How the names of metrics begin that were measured on the test data."""

_ROWS = 1000
"""Samples that are measured at once, where the Plan takes any number."""


def measure_of(test: Any, deployment: Deployment, seed: int, device: torch.device) -> Tester | None:
    """What measures the model after a round.

    Args:
        test: (x, y), which the evaluation Plan measures on; a function of the model that returns numbers by
            name; or None.
        deployment: the model.
        seed: for random inputs of the evaluation Plan.
        device: where it runs.

    Raises:
        ConfigError: there is no evaluation Plan, or the test is something else.
        DataError: the data cannot be used.
    """
    if test is None:
        return None
    if callable(test):
        return functools.partial(_called, test)
    if not isinstance(test, tuple | list) or len(test) != 2:
        raise ConfigError(
            f"test is a {type(test).__name__}: it must be (x, y), or a function from the model to numbers by "
            "name"
        )
    plan = deployment.evaluation
    if plan is None:
        raise ConfigError(
            f"test data is measured with a Plan '{EVALUATION_PLAN}', and there is none: make one with "
            "`evaluation_plan`, or pass a function of the model as test"
        )
    data, target = test
    check_data(data, target)
    rows = _ROWS if _takes_any_rows(plan) else deployment.config_at(1).get("batch_size")

    def measure(model: SyftModel, cycle: int) -> Mapping[str, MetricStatus]:
        training = Training.of(plan, deployment.config_at(cycle), batch_size=rows, device=device)
        step = training.run(model, data, target, RandomState(RandomStream(seed), cycle, 0))
        return {
            TEST + name: MetricStatus(value=mean.value, weight=mean.weight, workers=0)
            for name, mean in step.measurements.summary().metrics.items()
        }

    return measure


def _called(test: Callable[[SyftModel], Any], model: SyftModel, cycle: int) -> Mapping[str, MetricStatus]:
    del cycle
    found = test(model)
    if not isinstance(found, Mapping):
        raise ConfigError(
            f"the test function returned a {type(found).__name__}: it must return numbers by name, such as "
            "{'accuracy': 0.9}"
        )
    return {
        TEST + str(name): MetricStatus(value=float(value), weight=1.0, workers=0)
        for name, value in found.items()
        if math.isfinite(value)
    }


def _takes_any_rows(plan: Plan) -> bool:
    kinds = (PlanInputSpec.TYPE_DATA, PlanInputSpec.TYPE_TARGET)
    batches = [item for item in plan.inputs if item.spec is not None and item.spec.type in kinds]
    return all(item.any_rows for item in batches)
