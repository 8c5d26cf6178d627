"""How a Plan's arguments nest: PySyft's ``input_types``, and the path of each input."""

import pytest

from fedplan.plan import Plan
from fedplan.plan.message.nesting import paths_of, types_of
from fedplan.wire import schema
from tests.plan.fixtures import FOLDER, needs_fixtures

TENSOR = schema.NestedTypeWrapper(
    nested_types=schema.TypeContainer(nested_type=schema.InputTypeDescriptor(type_name="torch.Tensor"))
)


def wrapped(kind: str, *items: schema.NestedTypeWrapper) -> schema.NestedTypeWrapper:
    sequence = schema.TypeSequence(nested_types=list(items))
    return schema.NestedTypeWrapper(nested_types=schema.TypeContainer(**{f"nested_type_{kind}": sequence}))


def test_paths_lead_through_lists_and_tuples() -> None:
    types = wrapped("tuple", TENSOR, wrapped("list", TENSOR, wrapped("tuple", TENSOR)), TENSOR)
    assert paths_of(types, 4) == [(0,), (1, 0), (1, 1, 0), (2,)]


def test_a_list_of_one_is_a_list() -> None:
    types = wrapped("tuple", TENSOR, wrapped("list", TENSOR))
    assert paths_of(types, 2) == [(0,), (1, 0)]
    assert types_of([(0,), (1, 0)]) == types


@pytest.mark.parametrize(
    "types",
    [
        None,
        schema.NestedTypeWrapper(),
        TENSOR,
        wrapped("tuple", TENSOR),
        wrapped("tuple", TENSOR, TENSOR, TENSOR),
        wrapped(
            "tuple",
            TENSOR,
            schema.NestedTypeWrapper(
                nested_types=schema.TypeContainer(nested_type_dict=schema.TypeMap(nested_types={"w": TENSOR}))
            ),
        ),
    ],
    ids=["nothing", "an empty one", "no arguments", "too few", "too many", "a dict, which keeps no order"],
)
def test_what_does_not_tell_it_of_two_inputs_is_passed_over(types: schema.NestedTypeWrapper | None) -> None:
    assert paths_of(types, 2) == [None, None]


def test_what_is_not_known_of_all_is_not_written() -> None:
    assert types_of([(0,), None]) is None
    assert types_of([]) is None


@needs_fixtures
@pytest.mark.parametrize("name", ["small_mlp_sgd", "linreg_sgd", "avg_iterative", "foreign/pysyft"])
def test_a_plan_of_pysyft_keeps_how_it_nests_and_what_it_was_made_with(name: str) -> None:
    file = next(iter(sorted((FOLDER / name).glob("*.plan.pb"))))
    plan = Plan.parse(file.read_bytes())
    assert all(item.argument is not None and item.made_with is not None for item in plan.inputs)
    again = Plan.parse(plan.serialize())
    assert again.inputs == plan.inputs
    assert [item.shape for item in plan.inputs] == [None] * len(plan.inputs)  # they are no conditions


@needs_fixtures
def test_the_paths_are_those_of_the_arguments() -> None:
    plan = Plan.parse((FOLDER / "small_mlp_sgd" / "list.plan.pb").read_bytes())
    params = [(4, 0), (4, 1), (4, 2), (4, 3)]
    assert [item.argument for item in plan.inputs] == [(0,), (1,), (2,), (3,), *params]
    assert [item.made_with for item in plan.inputs][:4] == [(2, 6), (2, 3), (1,), (1,)]
