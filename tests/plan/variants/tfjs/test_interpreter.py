"""The interpreter runs a role as syft.js does: PySyft's Plans, positional arguments, what it refuses."""

import pathlib

import pytest
import torch

from fedplan.errors import PlanError, PlanExecutionError, PlanFormatError
from fedplan.plan.variants.tfjs.interpreter import execute
from fedplan.wire import schema
from tests.plan.fixtures import FOLDER, needs_fixtures, state

BROKEN = {
    "F_linear": "loses the bias: an action reads an id that nothing writes",
    "argmax": "tf.argMax without an axis goes along the first one, torch.argmax over all elements",
    "eq_op": "traced as a constant, no action at all",
    "flatten": "tf.util.flatten: tf has no 'flatten'",
    "split": "tf.split returns a list, of which syft.js keeps the first id only",
    "transpose": "tf.transpose takes a permutation, not two dimensions",
}
"""PySyft's translations that do not run, or compute something else, in tfjs itself; the tests of
interoperability show it with the client."""

NAMES = sorted(path.parent.relative_to(FOLDER) for path in FOLDER.glob("**/tfjs.plan.pb"))


def played(folder: pathlib.Path) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    role = schema.Plan.decode((FOLDER / folder / "tfjs.plan.pb").read_bytes()).role
    assert role is not None
    made = execute(role, state(FOLDER / folder / "input.state.pb"))
    return made, state(FOLDER / folder / "expected_output.state.pb")


@needs_fixtures
@pytest.mark.parametrize("folder", [name for name in NAMES if name.name not in BROKEN], ids=str)
def test_a_plan_that_pysyft_translated_runs_to_its_expected_output(folder: pathlib.Path) -> None:
    made, expected = played(folder)
    assert len(made) == len(expected) > 0
    for ours, theirs in zip(made, expected, strict=True):
        torch.testing.assert_close(ours.to(theirs.dtype), theirs, rtol=1e-5, atol=1e-5)


@needs_fixtures
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_translation_is_seen(name: str) -> None:
    folder = pathlib.Path("ops") / name
    try:
        made, expected = played(folder)
    except PlanError:
        return
    assert not made or made[0].shape != expected[0].shape


def id(number: int) -> schema.Id:
    return schema.Id(id_int=number)


def place(number: int) -> schema.PlaceholderId:
    return schema.PlaceholderId(id=id(number))


def ref(number: int) -> schema.Arg:
    return schema.Arg(arg_placeholder_id=place(number))


def numbers(*values: int) -> schema.Arg:
    return schema.Arg(arg_list=schema.ArgList(args=[schema.Arg(arg_int=value) for value in values]))


def role(*actions: schema.ComputationAction, output: int = 1) -> schema.Role:
    return schema.Role(
        actions=list(actions), input_placeholder_ids=[id(0)], output_placeholder_ids=[id(output)]
    )


def action(
    command: str, *args: schema.Arg, target: int | None = None, **kwargs: schema.Arg
) -> schema.ComputationAction:
    return schema.ComputationAction(
        command=command,
        target_placeholder_id=None if target is None else place(target),
        args=list(args),
        kwargs=kwargs,
        return_placeholder_ids=[place(1)],
    )


X = torch.arange(6.0).reshape(2, 3)


def run(*actions: schema.ComputationAction) -> torch.Tensor:
    return execute(role(*actions), [X])[0]


def test_only_the_last_part_of_a_command_counts() -> None:
    assert run(action("tf.layers.of.anything.reshape", ref(0), numbers(3, 2))).shape == (3, 2)


def test_keyword_arguments_are_taken_by_position_whatever_their_names() -> None:
    total = run(action("tf.sum", ref(0), banana=numbers(1), apple=schema.Arg(arg_bool=True)))
    assert total.tolist() == [[3.0], [12.0]]


def test_with_a_target_they_are_dropped() -> None:
    assert run(action("sum", target=0, axis=numbers(1))).item() == 15.0


def test_a_method_is_looked_up_on_the_tensor() -> None:
    assert run(action("concat", ref(0), schema.Arg(arg_int=1), target=0)).shape == (2, 6)
    with pytest.raises(PlanExecutionError, match=r"'fill' is none of the known functions of tf\.Tensor"):
        run(action("fill", numbers(2), target=0))


def test_an_id_may_be_written_again() -> None:
    twice = [action("tf.neg", ref(0)), action("tf.neg", ref(1))]
    assert execute(role(*twice), [X])[0].tolist() == X.tolist()


def test_a_plain_number_makes_an_integer_a_float() -> None:
    outputs = execute(role(action("tf.add", ref(0), schema.Arg(arg_int=1))), [torch.tensor([1, 2])])
    assert outputs[0].dtype == torch.float32


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (action("tf.einsum", ref(0)), "'einsum' is none of the known functions of tf"),
        (action("tf.matMul", ref(0), ref(0)), r"%1 = tf\.matMul\(%0, %0\)' failed: .*shape"),
        (action("tf.neg", ref(7)), "the id 7 is read before anything is written there"),
        (action("tf.reshape", ref(0), schema.Arg(arg_shape=schema.Shape(dims=[6]))), "arg_shape"),
        (action("tf.concat", schema.Arg(arg_list=schema.ArgList(args=[ref(0)]))), "'concat' is none"),
    ],
    ids=[
        "an unknown function",
        "shapes that do not fit",
        "a missing value",
        "arg_shape",
        "a list of tensors",
    ],
)
def test_what_syft_js_cannot_run_is_an_error_that_says_so(broken: schema.ComputationAction, why: str) -> None:
    with pytest.raises(PlanError, match=why):
        run(broken)


def test_a_constant_that_syft_js_does_not_load_is_an_error() -> None:
    double = schema.Arg(
        arg_tensor=schema.TorchTensor(
            contents_data=schema.TensorData(
                shape=schema.Shape(dims=[]), dtype="float64", contents_float64=bytes(8)
            )
        )
    )
    with pytest.raises(PlanFormatError, match="loads float32 and int32"):
        run(action("tf.add", ref(0), double))


def test_the_number_of_inputs_is_checked() -> None:
    with pytest.raises(PlanFormatError, match="has 1 inputs, not 2"):
        execute(role(action("tf.neg", ref(0))), [X, X])
