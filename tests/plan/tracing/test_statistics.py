"""Order, counts, sums on the way, and elements chosen by numbers, at any batch size."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fedplan.errors import PlanExecutionError, TraceError, UnsupportedOpError
from fedplan.plan import trace
from tests.plan.tracing.agreement import check_function, gradient_of

Function = Callable[[torch.Tensor, torch.Tensor], Any]

SHARES = torch.tensor([0.1, 0.5, 0.77])

OF_A_BATCH: dict[str, Function] = {
    "median of all": lambda x, w: torch.median(x * w),
    "median": lambda x, w: torch.median(x * w, 0),
    "median without what is no number": lambda x, w: torch.nanmedian(torch.where(x > 0, x * w, torch.nan), 1),
    "quantile": lambda x, w: torch.quantile(x * w, 0.3, 0),
    "quantiles": lambda x, w: torch.quantile(x * w, SHARES, dim=1, keepdim=True),
    "quantile of all": lambda x, w: torch.quantile(x * w, 0.9),
    **{
        f"quantile, {way}": lambda x, w, way=way: torch.quantile(x * w, SHARES, 0, interpolation=way)
        for way in ("lower", "higher", "midpoint", "nearest")
    },
    "quantile of what is no number": lambda x, w: torch.quantile(
        torch.where(x > 2, torch.nan, x * w), 0.3, 1
    ),
    "quantile without what is no number": lambda x, w: torch.nanquantile(
        torch.where(x > 0, torch.nan, x * w), 0.3, 1
    ),
    "k-th value": lambda x, w: torch.kthvalue(x * w, 2, 0),
    "sorted, stable": lambda x, w: torch.sort(x * w, dim=0, stable=True),
    "order": lambda x, w: torch.argsort(x * w, dim=1, stable=True),
    "most frequent": lambda x, w: torch.mode((x * 2).long(), 0)[0],
    "product on the way": lambda x, w: torch.cumprod(x * w, 1),
    "product on the way, with a zero": lambda x, w: torch.cumprod((x * w).relu(), 1),
    "largest on the way": lambda x, w: torch.cummax(x * w, 0),
    "smallest on the way": lambda x, w: torch.cummin(x * w, 1),
    "logarithm of sums on the way": lambda x, w: torch.logcumsumexp(x * w, 1),
    "covariance": lambda x, w: torch.cov((x * w).T),
    "covariance with weights": lambda x, w: torch.cov((x * w).T, aweights=x[:, 0].abs() + 1),
    "correlation": lambda x, w: torch.corrcoef((x * w).T),
    "variance and mean": lambda x, w: torch.var_mean(x * w, 0),
    "deviation and mean": lambda x, w: torch.std_mean(x * w, 1, correction=2, keepdim=True),
    "histogram": lambda x, w: torch.histc(x * w, 6, -2, 2),
    "counts": lambda x, w: torch.bincount((x.abs() * 2).long().flatten().clamp(max=6), minlength=7),
    "weights counted": lambda x, w: torch.bincount((x[:, 0] > 0).long(), x[:, 1], minlength=2),
    "buckets": lambda x, w: torch.bucketize(x * w, torch.tensor([-1.0, 0.0, 1.0])),
    "places in order": lambda x, w: torch.searchsorted((x * w).sort(1)[0], x, side="right"),
    "difference": lambda x, w: torch.diff(x * w, dim=1),
    "area": lambda x, w: torch.trapezoid(x * w, dim=1),
    "shifted bits": lambda x, w: ((x * 8).int() << 2) ^ ((x * 8).int() >> 1),
    "turned around": lambda x, w: torch.roll(x * w, (1, -1), (0, 1)),
    "windows": lambda x, w: (x * w).unfold(1, 3, 2),
    "windows of the batch": lambda x, w: (x * w).unfold(0, 2, 1).sum(-1),
    "combined by places": lambda x, w: torch.zeros(x.shape[0], 3).scatter_reduce(
        1, (x > 0).long(), x * w, "amax", include_self=False
    ),
    "mean by places": lambda x, w: torch.ones(3, 5).index_reduce(
        0, torch.arange(x.shape[0]) % 3, x * w, "mean"
    ),
    "taken": lambda x, w: torch.take(x * w, torch.tensor([[3, 1], [0, 2]])),
    "put": lambda x, w: torch.put(x * w, torch.tensor([3, 1, 3]), w[:3], accumulate=True),
    "filled rows": lambda x, w: (x * w).index_fill(1, torch.tensor([0, 3]), -1.0),
    "scattered under a mask": lambda x, w: x.masked_scatter(x > 0, x * w),
    "a diagonal": lambda x, w: torch.diagonal_scatter((x * w).T @ x, w[:4] * 2, 1),
    "repeated": lambda x, w: (x * w).repeat_interleave(torch.tensor([2, 0, 1, 3, 1]), 1, output_size=7),
    "functions of distributions": lambda x, w: (
        torch.lgamma((x * w).abs() + 1),
        torch.digamma((x * w).abs() + 1),
        torch.polygamma(1, (x * w).abs() + 1),
        torch.erfinv((x * w).tanh() * 0.9),
        torch.erfc(x * w),
        torch.special.i0e(x * w),
        torch.special.ndtri((x * w).sigmoid()),
        torch.special.log_ndtr(x * w),
        torch.special.xlog1py(x, w),
    ),
    "odds and ends": lambda x, w: (
        torch.fmax(x * w, x.flip(1)),
        torch.fmin(x * w, x.flip(1)),
        torch.hypot(x, w),
        torch.copysign(w, x),
        torch.exp2(x * w),
        torch.ldexp(x * w, torch.tensor(3)),
        torch.round(x * w, decimals=2),
        torch.angle(x * w),
        torch.logaddexp2(x, w.expand_as(x)),
        torch.addmv(x[:, 0], x, w, beta=0.5, alpha=2),
        torch.addbmm(w[:4], x[:4].expand(2, 4, 5), (x[:4] * w).mT.expand(2, 5, 4), alpha=0.1),
        torch.dist(x * w, x, 1.5),
    ),
}


@pytest.mark.filterwarnings("ignore:index_reduce")
@pytest.mark.some(24)
@pytest.mark.parametrize("name", OF_A_BATCH)
def test_of_a_batch(name: str) -> None:
    torch.manual_seed(0)
    weight = torch.rand(5) + 0.5
    check_function(
        gradient_of(OF_A_BATCH[name]),
        lambda rows: [torch.randn(rows, 5), weight.requires_grad_()],
        rows=(6, 4, 9),
        tolerance=3e-5,
    )


def test_a_count_that_is_too_large_makes_the_plan_fail() -> None:
    plan = trace(lambda x: torch.bincount(x, minlength=4), torch.arange(4))
    assert plan(torch.tensor([1, 1, 3]))[0].tolist() == [0, 2, 0, 1]
    with pytest.raises(PlanExecutionError):
        plan(torch.tensor([1, 5]))


def test_counts_without_a_length_are_refused_with_what_to_do() -> None:
    with pytest.raises(UnsupportedOpError, match=r"bincount.*at test_statistics\.py:\d+.*minlength=10"):
        trace(torch.bincount, torch.arange(4))


@pytest.mark.parametrize("number", [torch.tensor(2), torch.tensor(1, dtype=torch.int32)])
def test_a_tensor_of_one_number_is_an_index(number: torch.Tensor) -> None:
    table = torch.randn(4, 3)

    def chosen(x: torch.Tensor, place: torch.Tensor) -> list[torch.Tensor]:
        return [table[place] + x, x[:, place], x[1, place], x[place, 1:], table[place][None].expand_as(x)]

    plan = trace(chosen, torch.randn(5, 3), torch.tensor(0, dtype=number.dtype))
    x = torch.randn(4, 3)
    for made, expected in zip(plan(x, number), chosen(x, number), strict=True):
        assert torch.equal(made, expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")  # PyTorch's own, on first use
def test_derivatives_forward_and_of_derivatives() -> None:
    layer = torch.nn.Linear(4, 1)
    names = [name for name, _ in layer.named_parameters()]

    def product(x: torch.Tensor, *parameters: torch.Tensor) -> Any:
        def cost(*values: torch.Tensor) -> torch.Tensor:
            output = torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))
            return output.tanh().square().mean()

        values = tuple(p.detach() for p in parameters)
        ones = tuple(torch.ones_like(p) for p in values)
        return torch.func.jvp(torch.func.grad(cost, argnums=(0, 1)), values, ones)[1]

    # PyTorch looks at the sizes of a forward derivative, so the Plan has the batch size of its example
    check_function(product, lambda rows: [torch.randn(rows, 4), *layer.parameters()], rows=(5,))


def test_a_sparse_tensor_is_refused() -> None:
    with pytest.raises((TraceError, UnsupportedOpError)):
        trace(lambda x: x.to_sparse().coalesce().values(), torch.eye(3))
