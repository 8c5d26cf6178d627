"""Rules that look at several operations, applied where another rule has just changed one of them."""

import pytest
import torch

from fedplan.plan import Plan, PlanInput, PlanOutput
from fedplan.plan.ir.graph import Graph, Node, Ref

END = 2**63 - 1
WHOLE = Node("aten.slice.Tensor", (Ref(0), 0, 0, END), (2,))


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        pytest.param(
            [
                WHOLE,
                Node("aten.permute.default", (Ref(2), (1, 0)), (3,)),
                Node("aten.addmm.default", (Ref(1), Ref(0), Ref(3)), (4,)),
            ],
            lambda w, b: torch.addmm(b, w, w.t()),
            id="a product with a transposed slice",
        ),
        pytest.param(
            [
                WHOLE,
                Node("aten._to_copy.default", (Ref(2), "float32"), (3,)),
                Node("aten.mean.default", (Ref(3),), (4,)),
            ],
            lambda w, b: w.mean(),
            id="a mean of a converted slice",
        ),
        pytest.param(
            [
                WHOLE,
                Node("aten.sum.dim_IntList", (Ref(2), (0,), True), (3,)),
                Node("aten.reshape.default", (Ref(3), (3,)), (4,)),
            ],
            lambda w, b: w.sum(0),
            id="sums of the columns of a slice",
        ),
    ],
)
def test_a_nested_pattern_reads_nothing_that_a_rule_has_removed(nodes: list[Node], expected) -> None:
    inputs = PlanInput("w", (3, 3), "float32"), PlanInput("b", (3,), "float32")
    plan = Plan("nested", inputs, (PlanOutput("output"),), Graph((0, 1), (), tuple(nodes), (4,)))
    w, b = torch.randn(3, 3), torch.randn(3)
    for _ in range(2):  # the interpreter's run, the compiled one
        torch.testing.assert_close(plan(w, b)[0], expected(w, b))
