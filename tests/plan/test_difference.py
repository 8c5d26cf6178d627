"""How two Plans differ, by their operations and not by the numbers of their values."""

import torch

from fedplan.plan import Plan, PlanInputSpec, PlanOutputSpec, trace
from fedplan.plan.difference import Line, differ, differences

X = torch.zeros(4, 3)


def changed(before: Plan, after: Plan) -> dict[str, list[tuple[str, str]]]:
    """The lines that differ, by part."""
    parts = differences(before, after)
    found = {
        name: [(line.sign, line.text) for line in lines if line.sign != "same"]
        for name, lines in parts.items()
    }
    return {name: lines for name, lines in found.items() if lines}


def test_a_plan_is_no_other_than_itself_read_again() -> None:
    plan = trace(lambda x: (x.relu() + 1).sum(), X)
    parts = differences(plan, Plan.parse(plan.serialize()))
    assert not differ(parts)
    assert parts["operations"][0] == Line("same", "%1 = relu(%0)")


def test_an_operation_in_the_place_of_another_does_not_change_what_reads_it() -> None:
    found = changed(trace(lambda x: x.relu() + 1, X), trace(lambda x: x.tanh() + 1, X))
    assert found == {"operations": [("removed", "%1 = relu(%0)"), ("added", "%1 = tanh(%0)")]}


def test_an_operation_more_shifts_numbers_and_changes_only_who_reads_it() -> None:
    found = changed(trace(lambda x: (x.relu() + 1).sum(), X), trace(lambda x: ((x.relu() + 1) * 2).sum(), X))
    assert found == {
        "operations": [
            ("added", "%3 = mul(%2, 2)"),
            ("removed", "%3 = sum(%2)"),
            ("added", "%4 = sum(%3)"),
        ]
    }


def test_another_argument_is_a_difference() -> None:
    assert changed(trace(lambda x: x + 1, X), trace(lambda x: x + 1.0, X))["operations"] == [
        ("removed", "%1 = add(%0, 1)"),
        ("added", "%1 = add(%0, 1.0)"),
    ]


def test_operands_that_are_exchanged_are_a_difference() -> None:
    a, b = trace(lambda x, y: x - y, X, X), trace(lambda x, y: y - x, X, X)
    assert changed(a, b)["operations"] == [("removed", "%2 = sub(%0, %1)"), ("added", "%2 = sub(%1, %0)")]


def test_constants_are_compared_by_their_values() -> None:
    def plan(value: float) -> Plan:
        held = torch.full((3,), value)
        return trace(lambda x: x * held, X)

    (found,) = changed(plan(2.0), plan(3.0)).items()
    assert found[0] == "constants"
    assert [sign for sign, _ in found[1]] == ["removed", "added"]


def test_an_input_that_stands_for_something_else_is_a_difference() -> None:
    i = PlanInputSpec

    def plan(spec: PlanInputSpec) -> Plan:
        return trace(lambda x, rate: x * rate, X, torch.tensor(0.5), inputs=[i(i.TYPE_DATA), spec])

    rate = i(i.TYPE_CLIENT_CONFIG_PARAM, "lr")
    assert not differ(differences(plan(rate), plan(rate)))
    for other in (i(i.TYPE_CLIENT_CONFIG_PARAM, "mu"), i(i.TYPE_MODEL_PARAM, "lr", 7)):
        found = changed(plan(rate), plan(other))["inputs"]
        assert [sign for sign, _ in found] == ["removed", "added"]
        assert found[0][1] != found[1][1]


def test_an_output_that_is_another_value_is_a_difference() -> None:
    a, b = trace(lambda x: (x.relu(), x.tanh()), X), trace(lambda x: (x.tanh(), x.relu()), X)
    assert differ(differences(a, b))


def test_what_would_be_reported_is_compared() -> None:
    i, o = PlanInputSpec, PlanOutputSpec

    def plan(*outputs: PlanOutputSpec) -> Plan:
        inputs = [i(i.TYPE_DATA), i(i.TYPE_MODEL_PARAM, index=0)]
        return trace(
            lambda x, w: ((x * w).sum(), w * 2), X, torch.ones(3), inputs=inputs, outputs=list(outputs)
        )

    model = o(o.TYPE_MODEL_PARAM, index=0)
    found = changed(plan(o(o.TYPE_LOSS), model), plan(o(o.TYPE_METRIC, "spy"), model))
    assert found["reported"] == [("removed", "the loss"), ("added", "the metric spy")]
