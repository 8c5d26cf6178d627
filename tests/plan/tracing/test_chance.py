"""What random operators make of given numbers: of PyTorch's dtypes, and within its bounds."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fedplan.plan import RandomStream, trace
from fedplan.plan.run.interpreter import interpret
from fedplan.plan.tracing.chance import RULES

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
LARGEST, SMALLEST = 1 - 2.0**-24, 2.0**-24

aten: Any = torch.ops.aten


def calls(dtype: torch.dtype) -> dict[Any, tuple[tuple[Any, ...], dict[str, Any]]]:
    """Arguments of each random operator, of a floating-point dtype."""
    x, half = torch.full((4,), 0.5, dtype=dtype), torch.full((4,), 0.5, dtype=dtype)
    made, size = {"dtype": dtype}, [4]
    return {
        aten.native_dropout.default: ((x, 0.5, True), {}),
        aten.bernoulli_.float: ((x, 0.5), {}),
        aten.bernoulli_.Tensor: ((x, half), {}),
        aten.bernoulli.default: ((half,), {}),
        aten.bernoulli.p: ((x, 0.5), {}),
        aten.rand.default: ((size,), made),
        aten.rand_like.default: ((x,), {}),
        aten.uniform_.default: ((x, -1.0, 1.0), {}),
        aten.exponential_.default: ((x,), {}),
        aten.cauchy_.default: ((x,), {}),
        aten.rrelu_with_noise.default: ((x, half, 0.1, 0.3, True), {}),
        aten.rrelu_with_noise_.default: ((x, half, 0.1, 0.3, True), {}),
        aten.randn.default: ((size,), made),
        aten.randn_like.default: ((x,), {}),
        aten.normal_.default: ((x, 0.0, 1.0), {}),
        aten.log_normal_.default: ((x,), {}),
        aten.normal.Tensor_Tensor: ((x, half), {}),
        aten.normal.Tensor_float: ((x, 1.0), {}),
        aten.normal.float_Tensor: ((0.0, half), {}),
        aten.normal.float_float: ((0.0, 1.0, size), made),
        aten.randint.default: ((9, size), made),
        aten.randint.low: ((3, 9, size), made),
        aten.randint_like.default: ((x, 9), {}),
        aten.randint_like.low_dtype: ((x, 3, 9), {}),
        aten.randperm.default: ((4,), made),
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", RULES, ids=str)
def test_an_operator_makes_the_dtype_that_it_makes_in_pytorch(op: Any, dtype: torch.dtype) -> None:
    rule = RULES[op]
    drawn = torch.full((4,), 0.25, dtype=rule.dtype or torch.float32)
    (args, options), (again, _) = calls(dtype)[op], calls(dtype)[op]
    try:
        theirs = op(*again, **options)
    except NotImplementedError as error:
        pytest.skip(f"PyTorch has no such kernel: {error}")
    ours = rule.answer(drawn, *args, **options)
    pairs = zip(ours, theirs, strict=True) if isinstance(theirs, tuple) else [(ours, theirs)]
    for one, other in pairs:
        assert (one.dtype, one.shape) == (other.dtype, other.shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "draw",
    [
        lambda x: torch.rand(4, dtype=x.dtype),
        torch.rand_like,
        lambda x: torch.empty_like(x).uniform_(),
        lambda x: (torch.empty_like(x).uniform_(-1, 1) + 1) / 2,
    ],
)
def test_uniform_numbers_stay_below_one(draw: Callable[..., torch.Tensor], dtype: torch.dtype) -> None:
    plan = trace(draw, torch.zeros(4, dtype=dtype), pin_batch=True)
    made = interpret(plan.graph, [torch.zeros(4, dtype=dtype), torch.full((4,), LARGEST)])[0]
    assert made.dtype == dtype
    assert (made < 1).all()
    assert (made >= 1 - 2 * torch.finfo(dtype).eps).all()


@pytest.mark.parametrize("u", [0.0, SMALLEST])
@pytest.mark.parametrize("dtype", DTYPES)
def test_exponential_numbers_have_a_logarithm(dtype: torch.dtype, u: float) -> None:
    plan = trace(lambda x: torch.empty_like(x).exponential_().log(), torch.zeros(4, dtype=dtype))
    made = interpret(plan.graph, [torch.zeros(4, dtype=dtype), torch.full((4,), u)])[0]
    assert torch.isfinite(made).all()


def test_a_permutation_has_the_dtype_that_it_is_asked_for() -> None:
    plan = trace(lambda x: (x, torch.randperm(5, dtype=torch.int32)), torch.zeros(4))
    made = plan(torch.zeros(4), random=RandomStream(7))[1]
    assert made.dtype == torch.int32
    assert sorted(made.tolist()) == [0, 1, 2, 3, 4]
