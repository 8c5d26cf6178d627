"""Every function of `torch.nn.functional` becomes part of a Plan as its layer does, or is refused.

A layer calls a function with all of its options, and is tried with these; here are the functions that no
layer calls, and the forms that layers do not have.
"""

import ast
import inspect
import sys
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest
from torch.nn import functional as F

from tests.plan.layers.agreement import EQUAL, agreement
from tests.plan.layers.functions import FUNCTIONS, NOT_TRIED, case
from tests.plan.layers.layers import LAYERS
from tests.plan.layers.losses import LOSSES


@pytest.fixture(autouse=True)
def _without_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, about functions and options that it would like forgotten
        yield


@pytest.mark.some(24)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_plan_of_a_function_equals_eager(name: str) -> None:
    outcome = agreement(case(name))
    assert (outcome.kind, outcome.faults) == (EQUAL, ())


def test_every_function_is_called_by_a_layer_or_listed() -> None:
    listed = {name.partition(",")[0].partition(" ")[0] for name in FUNCTIONS}
    assert sorted(functions_of_torch()) == sorted({*listed, *called_by_layers(), *NOT_TRIED})


LOSE_ARGUMENTS = {"l1_loss": {"weight"}}
"""Functions that do not hand all arguments on to who looks on, as the tracer does: decompositions do."""


def test_no_other_function_loses_an_argument_when_somebody_looks_on() -> None:
    lost = {}
    for function in ast.walk(ast.parse(inspect.getsource(F))):
        if isinstance(function, ast.FunctionDef):
            named = (*function.args.args, *function.args.kwonlyargs)
            for given in _handed_on(function):
                missing = {argument.arg for argument in named} - given
                if missing:
                    lost[function.name] = missing
    assert lost == LOSE_ARGUMENTS


def _handed_on(function: ast.FunctionDef) -> Iterator[set[str]]:
    """For each call of `handle_torch_function`, the names in what it hands on."""
    for call in ast.walk(function):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "handle_torch_function":
            values = (*call.args[2:], *(keyword.value for keyword in call.keywords))
            yield {node.id for value in values for node in ast.walk(value) if isinstance(node, ast.Name)}


def functions_of_torch() -> Iterator[str]:
    """Names of all functions that `torch.nn.functional` has."""
    for name, value in vars(F).items():
        public = not name.startswith("_") and callable(value) and not inspect.isclass(value)
        if public and getattr(value, "__module__", "") != "typing":
            yield name


def called_by_layers() -> set[str]:
    """Names of those that the plain layers and losses call, and pools that are asked for indices."""
    known = {id(getattr(value, "__code__", value)): name.strip("_") for name, value in vars(F).items()}
    found: set[str] = set()

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        called = frame.f_code if event == "call" else argument
        if event in ("call", "c_call") and id(called) in known:
            found.add(known[id(called)])

    cases = [subject.case(subject.menu.plain()) for subject in (*LAYERS.values(), *LOSSES.values())]
    for subject in LAYERS.values():
        cases += [subject.case(c) for option, _, c in subject.menu.one_by_one() if option == "return_indices"]
    for one in cases:
        model, score = one.build()
        data, target = one.batch(2)
        sys.setprofile(profile)
        try:
            score(model(*data), target)
        finally:
            sys.setprofile(None)
    return found & set(functions_of_torch()) - {n.partition(",")[0].partition(" ")[0] for n in FUNCTIONS}
