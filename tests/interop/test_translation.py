"""fedplan's translation of Plans into tfjs computes what PyTorch computes, in tfjs itself."""

import dataclasses
import functools
from collections.abc import Callable

import pytest
import torch

from fedplan.plan import Plan, model_parameters, split_variants, trace, training_plan
from fedplan.plan.run.interpreter import interpret
from fedplan.plan.variants.make import make_variant
from tests.long import only_in_the_long_form, some
from tests.plan.families import FAMILIES
from tests.plan.tracing.test_training import optimizer_state, traced
from tests.plan.variants.tfjs.agreement import gradients, like
from tests.plan.variants.tfjs.odd_extents import MODELS, model_of
from tests.plan.variants.tfjs.test_convolutions import (
    KINDS,
    TRANSPOSED_KINDS,
    Layer,
    Options,
    convolution,
    transposed,
)
from tests.plan.variants.tfjs.test_indexing import CHOICES, PUT
from tests.plan.variants.tfjs.test_ordering import ORDERS
from tests.plan.variants.tfjs.test_pools import POOLS, POOLS_OF_VOLUMES
from tests.plan.variants.tfjs.test_translate import FUNCTIONS_OF_A_MATRIX, FUNCTIONS_OF_A_VOLUME, VOLUMES

from .actions import Array
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


def function_of(function: Callable[..., object], *examples: torch.Tensor) -> Case:
    return Case(trace(function, *examples), [like(example, ROWS) for example in examples])


def of_odd_extents(name: str) -> Case:
    """A training step on a squared error, whose gradient is nowhere zero."""
    model, batch = model_of(name), MODELS[name][1]
    target = torch.randn(ROWS, *model(batch(ROWS)).shape[1:])
    plan = training_plan(model, torch.nn.functional.mse_loss, example=(batch(4), target[:4]))
    return Case(plan, [batch(ROWS), target, torch.tensor([0.1]), *model_parameters(model)])


def layer_of(make: Callable[..., Layer], rank: int, options: Options) -> Case:
    function, examples = make(rank, options)
    return function_of(function, *examples)


CASES: dict[str, Callable[[], Case]] = {
    **{name: functools.partial(step_of, name) for name in FAMILIES},
    **{
        name: functools.partial(function_of, each, torch.zeros(4, 3))
        for name, each in FUNCTIONS_OF_A_MATRIX.items()
    },
    **{f"odd: {name}": functools.partial(of_odd_extents, name) for name in MODELS},
    **{
        f"volumes: {name}": functools.partial(function_of, each, VOLUMES)
        for name, each in FUNCTIONS_OF_A_VOLUME.items()
    },
    **{
        f"pool: {name}": functools.partial(function_of, gradients(each), torch.zeros(4, 2, 6, 9))
        for name, each in POOLS.items()
    },
    **{
        f"pool of volumes: {name}": functools.partial(
            function_of, gradients(each), torch.zeros(4, 2, 4, 5, 6)
        )
        for name, each in POOLS_OF_VOLUMES.items()
    },
    **{
        f"chosen: {name}": functools.partial(function_of, gradients(each), *examples)
        for name, (each, examples) in CHOICES.items()
    },
    **{
        f"put: {name}": functools.partial(function_of, each, *examples)
        for name, (each, examples) in PUT.items()
    },
    **{
        f"order: {name}": functools.partial(function_of, gradients(each), torch.zeros(4, 5))
        for name, each in ORDERS.items()
    },
    **{
        f"{rank}: {make.__name__} {options}": functools.partial(layer_of, make, rank, options)
        for make, kinds in ((convolution, KINDS), (transposed, TRANSPOSED_KINDS))
        for options in kinds
        for rank in (1, 2, 3)
    },
}


@pytest.fixture(scope="module", params=(0, 1), ids=("half", "other half"))
def cases(request: pytest.FixtureRequest) -> dict[str, Case]:
    """Half of them, so that two processes can share them."""
    torch.manual_seed(0)
    return {name: CASES[name]() for name in some(CASES, 8)[request.param :: 2]}


@pytest.fixture(scope="module")
def tasks(cases: dict[str, Case]) -> list[tuple[bytes, list[Array]]]:
    return [
        (
            split_variants(make_variant(case.plan, "tfjs").serialize())["tfjs"],
            [value.detach().numpy() for value in case.arguments],
        )
        for case in cases.values()
    ]


RUNTIMES = [
    pytest.param(name, marks=[] if name != "Chromium, tfjs-core 1.2.5" else only_in_the_long_form)
    for name in PROGRAMS
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_tfjs_computes_what_pytorch_computes(
    cases: dict[str, Case], tasks: list[tuple[bytes, list[Array]]], runtime: str
) -> None:
    faults = {}
    every = 6 if "Chromium" in runtime else 1  # WebGL compiles a program for each operation
    names = some(cases, every)
    for name, made in zip(names, run_plans(some(tasks, every), runtime), strict=True):
        if fault := _fault(cases[name], made):
            faults[name] = fault
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
