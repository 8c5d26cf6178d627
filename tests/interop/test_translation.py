"""fedplan's translation of Plans into tfjs computes what PyTorch computes, in tfjs itself."""

import dataclasses
import functools
from collections.abc import Callable

import pytest
import torch

from fedplan.plan import Plan, model_parameters, split_variants, trace
from fedplan.plan.run.interpreter import interpret
from fedplan.plan.variants.make import make_variant
from tests.plan.families import FAMILIES
from tests.plan.tracing.test_training import optimizer_state, traced
from tests.plan.variants.tfjs.test_translate import FUNCTIONS_OF_A_MATRIX, POOLS, gradients

from .tfjs import PROGRAMS, Result, TfjsError, run_plans

ROWS = 5


@dataclasses.dataclass(frozen=True)
class Case:
    plan: Plan
    arguments: list[torch.Tensor]


def step_of(family: str) -> Case:
    """A training step of one of the models that fedplan promises to trace."""
    model, plan = traced(family)
    data, target = FAMILIES[family].batch(ROWS)
    return Case(plan, [data, target, torch.tensor([0.1]), *model_parameters(model), *optimizer_state(plan)])


def function_of(function: Callable[..., object], *shape: int) -> Case:
    return Case(trace(function, torch.zeros(4, *shape)), [torch.randn(ROWS, *shape)])


CASES: dict[str, Callable[[], Case]] = {
    **{name: functools.partial(step_of, name) for name in FAMILIES},
    **{name: functools.partial(function_of, each, 3) for name, each in FUNCTIONS_OF_A_MATRIX.items()},
    **{
        f"pool: {name}": functools.partial(function_of, gradients(each), 2, 6, 9)
        for name, each in POOLS.items()
    },
}


@pytest.mark.timeout(300)
def test_tfjs_computes_what_pytorch_computes():
    torch.manual_seed(0)
    cases = {name: make() for name, make in CASES.items()}
    tasks = []
    for case in cases.values():
        plan = make_variant(case.plan, "tfjs")
        tasks.append((split_variants(plan.serialize())["tfjs"], [value.numpy() for value in case.arguments]))

    faults = {}
    for runtime in PROGRAMS:
        for name, made in zip(cases, run_plans(tasks, runtime), strict=True):
            if fault := _fault(cases[name], made):
                faults[f"{name}, in {runtime}"] = fault
    assert faults == {}


def _fault(case: Case, made: list[Result] | TfjsError) -> str | None:
    """What is wrong with the outputs."""
    if isinstance(made, TfjsError):
        return str(made)
    for ours, theirs in zip(made, interpret(case.plan.graph, case.arguments), strict=True):
        try:
            tensor = torch.tensor(ours).to(theirs.dtype)
            torch.testing.assert_close(tensor, theirs, rtol=1e-4, atol=1e-4, equal_nan=True)
        except AssertionError as difference:
            return str(difference)
    return None
