"""Solving, factors, inverses and determinants, with their gradients, at any batch size."""

from collections.abc import Callable

import pytest
import torch

from fedplan.errors import PlanExecutionError, UnsupportedOpError
from fedplan.plan import PlanInputSpec, trace
from tests.plan.tracing.agreement import check_function, gradient_of

Function = Callable[[torch.Tensor, torch.Tensor], object]


def _symmetric(a: torch.Tensor) -> torch.Tensor:
    return a @ a.mT + torch.eye(a.shape[-1])


BATCHED: dict[str, Function] = {
    "cholesky": lambda x, w: torch.linalg.cholesky(_symmetric(x * w)),
    "cholesky, upper": lambda x, w: torch.linalg.cholesky(_symmetric(x * w), upper=True),
    "cholesky of old": lambda x, w: torch.cholesky_solve(x, torch.linalg.cholesky(_symmetric(x * w))),
    "cholesky inverse": lambda x, w: torch.cholesky_inverse(torch.linalg.cholesky(_symmetric(x * w))),
    "solve": lambda x, w: torch.linalg.solve(_symmetric(x), x * w),
    "solve a vector": lambda x, w: torch.linalg.solve(_symmetric(x * w), x[..., 0]),
    "solve from the right": lambda x, w: torch.linalg.solve(_symmetric(x * w), x, left=False),
    "solve by triangles": lambda x, w: torch.linalg.solve_triangular(
        torch.linalg.cholesky(_symmetric(x)), x * w, upper=False
    ),
    "inverse": lambda x, w: torch.linalg.inv(_symmetric(x * w)),
    "inverse by another name": lambda x, w: _symmetric(x * w).inverse(),
    "determinant": lambda x, w: torch.linalg.det(_symmetric(x * w) * 0.5),
    "determinant of a transposition": lambda x, w: torch.det((x * w).mT + torch.eye(4) * 2),
    "logarithm of a determinant": lambda x, w: torch.logdet(_symmetric(x * w)),
    "sign and logarithm": lambda x, w: torch.linalg.slogdet(x * w + torch.eye(4) * 3),
    "QR": lambda x, w: torch.linalg.qr(x * w + torch.eye(4) * 2),
    "LU": lambda x, w: torch.linalg.lu(x * w + torch.eye(4) * 2)[1:],
    "LU, packed": lambda x, w: torch.linalg.lu_solve(*torch.linalg.lu_factor(x * w + torch.eye(4) * 2), x),
    "eigenvalues of a symmetric matrix": lambda x, w: torch.linalg.eigvalsh(_symmetric(x * w)),
    "eigenvectors of a symmetric matrix": lambda x, w: torch.linalg.eigh(_symmetric(x * w))[1].square(),
    "singular values": lambda x, w: torch.linalg.svdvals(x * w),
    "singular vectors": lambda x, w: torch.linalg.svd(x * w + torch.diag(torch.arange(4.0) * 3))[0].square(),
    "nuclear norm": lambda x, w: torch.linalg.matrix_norm(x * w, "nuc"),
    "norms of rows and columns": lambda x, w: [
        torch.linalg.matrix_norm(x * w, p) for p in (1, -1, torch.inf)
    ],
    "spectral norm": lambda x, w: torch.linalg.matrix_norm(x * w, 2),
    "pseudo-inverse": lambda x, w: torch.linalg.pinv((x * w)[..., :2]),
    "pseudo-inverse of a symmetric matrix": lambda x, w: torch.linalg.pinv(_symmetric(x * w), hermitian=True),
    "least squares": lambda x, w: torch.linalg.lstsq((x * w)[..., :2], x[..., 2:]).solution,
    "exponential": lambda x, w: torch.linalg.matrix_exp(x * w * 0.3),
    "power": lambda x, w: torch.linalg.matrix_power(x * w * 0.5, -2),
    "condition": lambda x, w: torch.linalg.cond(_symmetric(x * w)),
    "Cholesky, then a density": lambda x, w: torch.distributions.MultivariateNormal(
        x[:, 0] * w[0], _symmetric(torch.eye(4)), validate_args=False
    ).log_prob(x[:, 1]),
}


@pytest.mark.some(24)
@pytest.mark.parametrize("name", BATCHED)
def test_of_each_matrix_of_a_batch(name: str) -> None:
    torch.manual_seed(0)
    weight = torch.rand(4, 4) + 0.5
    check_function(
        gradient_of(BATCHED[name]),
        lambda rows: [torch.randn(rows, 4, 4), weight.requires_grad_()],
        tolerance=2e-4,
    )


OF_ALL: dict[str, Function] = {
    "ridge": lambda x, w: torch.linalg.solve((x * w).T @ (x * w) + torch.eye(4), (x * w).T @ x),
    "least squares": lambda x, w: torch.linalg.lstsq(x * w, x.sum(1, keepdim=True)).solution,
    "a Gaussian process": lambda x, w: torch.linalg.solve(
        torch.exp(-torch.cdist(x * w, x * w).square()) + torch.eye(x.shape[0]), x[:, :1]
    ),
    "whitening": lambda x, w: (
        (x * w) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov((x * w).T) + torch.eye(4))).mT
    ),
    "log-determinant of a kernel": lambda x, w: torch.logdet((x * w) @ (x * w).T + torch.eye(x.shape[0])),
}


@pytest.mark.parametrize("name", OF_ALL)
def test_of_a_matrix_that_the_batch_makes(name: str) -> None:
    torch.manual_seed(0)
    weight = torch.rand(4) + 0.5
    check_function(
        gradient_of(OF_ALL[name]),
        lambda rows: [torch.randn(rows, 4), weight.requires_grad_()],
        rows=(6, 9, 30),
        tolerance=1e-4,
    )


SINGULAR: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "least squares": lambda x: torch.linalg.lstsq(x, x[..., :1]).solution,
    "pseudo-inverse": torch.linalg.pinv,
    "without what is small": lambda x: torch.linalg.pinv(x, rtol=0.5),
    "without what is below a number": lambda x: torch.linalg.pinv(x, atol=2.0),
    "without what is below a tensor": lambda x: torch.linalg.pinv(x, atol=torch.tensor(2.0)),
    "with a threshold of zero": lambda x: torch.linalg.pinv(x, atol=torch.tensor(0.0)),
    "of a symmetric matrix": lambda x: torch.linalg.pinv(x.mT @ x, hermitian=True),
}


@pytest.mark.parametrize("name", SINGULAR)
def test_of_the_solutions_of_a_singular_matrix_it_is_the_one_that_pytorch_takes(name: str) -> None:
    torch.manual_seed(0)
    plan = trace(SINGULAR[name], torch.randn(8, 5), inputs=[PlanInputSpec(PlanInputSpec.TYPE_DATA)])
    for rows in (8, 20):
        half = torch.randn(rows, 3)
        x = torch.cat([half, half[:, :2]], 1)  # a column twice, as one-hot classes beside an intercept
        torch.testing.assert_close(plan(x)[0], SINGULAR[name](x), atol=1e-4, rtol=1e-4)


def test_a_matrix_that_has_no_factor_makes_the_plan_fail_as_it_makes_pytorch() -> None:
    plan = trace(torch.linalg.cholesky, torch.eye(3).expand(4, 3, 3))
    with pytest.raises(PlanExecutionError, match="not positive-definite"):
        plan(-torch.eye(3).expand(2, 3, 3))
    plan = trace(torch.linalg.inv, torch.eye(3).expand(4, 3, 3))
    with pytest.raises(PlanExecutionError, match="singular"):
        plan(torch.zeros(2, 3, 3))


@pytest.mark.parametrize(
    ("function", "instead"),
    [
        (lambda x: torch.linalg.lstsq(x, x).residuals, "Compute them from its solution"),
        (lambda x: torch.view_as_real(torch.linalg.eigvals(x)), "eigvalsh"),
    ],
)
def test_what_depends_on_values_is_refused_with_another_way(
    function: Callable[[torch.Tensor], object], instead: str
) -> None:
    with pytest.raises(UnsupportedOpError, match=instead):
        trace(function, torch.randn(4, 3, 3))
