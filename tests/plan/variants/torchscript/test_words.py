"""Every operation of the op table is said in TorchScript, and computes the same there."""

import pytest
import torch

from fedplan.errors import PlanFormatError
from fedplan.plan import OPS
from fedplan.plan.ir.graph import Node, Ref
from fedplan.plan.ops import DTYPES
from fedplan.plan.run.interpreter import interpret
from fedplan.plan.variants.torchscript import run, write
from fedplan.plan.variants.torchscript.literals import DTYPE_NUMBERS, literal
from fedplan.plan.variants.torchscript.spelling import spell
from tests.plan.variants.torchscript.operations import SAMPLES


def test_every_dtype_has_its_number() -> None:
    assert DTYPE_NUMBERS.keys() == DTYPES.keys()


@pytest.mark.some(12)
@pytest.mark.parametrize("op", [op.name for op in OPS.values() if op.torchscript is not None])
@pytest.mark.parametrize("strided", [False, True])
def test_an_operation_computes_in_torchscript_what_it_computes_here(op: str, strided: bool) -> None:
    samples = [sample for sample in SAMPLES if sample.op == op]
    assert samples
    for sample in samples:
        plan, arguments = sample.plan(strided)
        expected = interpret(plan.graph, arguments)
        for ours, theirs in zip(run(write(plan), arguments), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5, equal_nan=True, msg=str(sample))


@pytest.mark.parametrize(
    ("value", "type", "text"),
    [
        (Ref(3), "Tensor", "v3"),
        (Ref(3), "float", "float(v3)"),
        (None, "Optional[Tensor]", "None"),
        (2, "float", "2.0"),
        (0.1, "number", "0.1"),
        (float("-inf"), "number", "-inf"),
        (float("nan"), "number", "nan"),
        (-(2**63), "int", "(-9223372036854775807 - 1)"),
        (True, "number", "1"),
        (True, "bool", "True"),
        (1, "bool", "True"),
        ("float64", "Optional[ScalarType]", "7"),
        ("it's", "str", '"it\'s"'),
        ((1, Ref(2)), "List[int]", "[1, v2]"),
        ((), "List[int]", "annotate(List[int], [])"),
        (None, "Optional[List[int]]", "annotate(List[int], [])"),
        ((None, Ref(1)), "List[Optional[Tensor]]", "annotate(List[Optional[Tensor]], [None, v1])"),
        (2, "Tensor", "torch.scalar_tensor(2, dtype=4)"),
        (0.5, "Tensor", "torch.scalar_tensor(0.5, dtype=7)"),
    ],
)
def test_arguments_are_written_as_their_type_asks_for(value: object, type: str, text: str) -> None:
    assert literal(value, type) == text


def test_arguments_that_do_not_fit_the_operator_are_refused() -> None:
    with pytest.raises(PlanFormatError, match="does not fit the operator"):
        spell(Node("aten.mm.default", (Ref(0),), (1,)))
    with pytest.raises(PlanFormatError, match="names the dtype"):
        spell(Node("aten.full.default", ((2,), 0, "float8"), (1,)))
