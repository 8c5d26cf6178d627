"""Linear algebra: solving, factors, inverses.

PyTorch's functions compute in two steps: an operation that notes whether it could, and a look at that note. A
Plan has no Python that could look, so the operation itself is asked to fail.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from fedplan.plan.tracing.refused import refused

aten = torch.ops.aten


def _cholesky(value: torch.Tensor, upper: bool = False) -> torch.Tensor:
    factor: torch.Tensor = torch.linalg.cholesky_ex(value, upper=upper, check_errors=True)[0]
    return factor


def _inverse(value: torch.Tensor) -> torch.Tensor:
    inverse: torch.Tensor = torch.linalg.inv_ex(value, check_errors=True)[0]
    return inverse


def _solve(matrix: torch.Tensor, right: torch.Tensor, *, left: bool = True) -> torch.Tensor:
    solution: torch.Tensor = torch.linalg.solve_ex(matrix, right, left=left, check_errors=True)[0]
    return solution


def _determinant(value: torch.Tensor) -> torch.Tensor:
    """Of a matrix that lies in memory row by row: its gradient depends on that."""
    made: torch.Tensor = aten._linalg_det(value.contiguous())[0]
    return made


def _log_determinant(value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    sign, logarithm, *_ = aten._linalg_slogdet(value.contiguous())
    return sign, logarithm


def _logarithm_of_determinant(value: torch.Tensor) -> torch.Tensor:
    sign, logarithm = _log_determinant(value)
    return sign.log() + logarithm


def _matrix_norm(
    value: torch.Tensor,
    order: float | str = "fro",
    dim: Sequence[int] = (-2, -1),
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Frobenius norm, norms of the singular values, or the largest or smallest sum of a row or column."""
    value = value if dtype is None else value.to(dtype)
    row, column = (axis % value.dim() for axis in dim)
    if order == "fro":
        norm: torch.Tensor = torch.linalg.vector_norm(value, 2, (row, column), keepdim)
        return norm
    if order in ("nuc", 2, -2):
        numbers = torch.linalg.svdvals(value.movedim((row, column), (-2, -1)))
        norm = {"nuc": numbers.sum, 2: numbers.amax, -2: numbers.amin}[order](-1)
        return norm.unsqueeze(min(row, column)).unsqueeze(max(row, column)) if keepdim else norm
    across, along = (row, column) if order in (1, -1) else (column, row)
    sums = value.abs().sum(across, keepdim=True)
    norm = (sums.amax if float(order) > 0 else sums.amin)(along, keepdim=True)
    return norm if keepdim else norm.squeeze((row, column))


def _lu_factor(value: torch.Tensor, *, pivot: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    factors, pivots, _ = torch.linalg.lu_factor_ex(value, pivot=pivot, check_errors=True)
    return factors, pivots


def _cholesky_solve(right: torch.Tensor, factor: torch.Tensor, upper: bool = False) -> torch.Tensor:
    lower = factor.mT if upper else factor
    halfway = torch.linalg.solve_triangular(lower, right, upper=False)
    solution: torch.Tensor = torch.linalg.solve_triangular(lower.mT, halfway, upper=True)
    return solution


def _cholesky_inverse(factor: torch.Tensor, upper: bool = False) -> torch.Tensor:
    one = torch.eye(factor.shape[-1], dtype=factor.dtype)
    return _cholesky_solve(one.expand_as(factor), factor, upper)


def _triangular_solve(
    right: torch.Tensor,
    factor: torch.Tensor,
    upper: bool = True,
    transpose: bool = False,
    unitriangular: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    side = (factor.mT, not upper) if transpose else (factor, upper)
    solved = torch.linalg.solve_triangular(side[0], right, upper=side[1], unitriangular=unitriangular)
    return solved, factor.clone()


def _least_squares(
    left: torch.Tensor, right: torch.Tensor, rcond: float | None = None, *, driver: str | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The solution of least squares; of several, the smallest."""
    vector = left.dim() - 1 == right.dim() and right.shape == left.shape[:-1]
    column = right.unsqueeze(-1) if vector else right
    solution = torch.linalg.pinv(left, rtol=rcond) @ column
    left_out = (
        "Whether lstsq gives residuals depends on values. Compute them from its solution, as (a @ x - b)**2."
    )
    rest = (refused(right, "aten.linalg_lstsq.default", left_out) for _ in range(3))
    return (solution.squeeze(-1) if vector else solution, *rest)


def _pseudo_inverse(
    value: torch.Tensor, *, atol: float | None = None, rtol: float | None = None, hermitian: bool = False
) -> torch.Tensor:
    """With thresholds as tensors: the greatest side of the matrix may be the batch."""
    thresholds = (None if t is None else torch.full((), t, dtype=value.dtype) for t in (atol, rtol))
    inverse: torch.Tensor = aten.linalg_pinv.atol_rtol_tensor(
        value, **dict(zip(("atol", "rtol"), thresholds, strict=True)), hermitian=hermitian
    )
    return inverse


def _pseudo_inverse_by_values(
    value: torch.Tensor,
    *,
    atol: torch.Tensor | None = None,
    rtol: torch.Tensor | None = None,
    hermitian: bool = False,
) -> torch.Tensor:
    """By singular values, of which those that are nothing but rounding are left out."""
    if hermitian:
        numbers, vectors = torch.linalg.eigh(value)
        left, right = vectors, vectors.mT
    else:
        left, numbers, right = torch.linalg.svd(value, full_matrices=False)
    sizes = numbers.abs()
    least = torch.zeros((), dtype=value.dtype) if atol is None else atol
    if rtol is None:
        longest: Any = torch.sym_max(*value.shape[-2:])  # type: ignore[no-untyped-call]
        rounding = torch.full((), torch.finfo(value.dtype).eps, dtype=value.dtype) * longest
        rtol = rounding if atol is None else torch.where(atol > 0, torch.zeros_like(atol), rounding)
    threshold = torch.maximum(least.unsqueeze(-1), rtol.unsqueeze(-1) * sizes.amax(-1, keepdim=True))
    inverted = torch.where(sizes > threshold, numbers, torch.inf).reciprocal()
    inverse: torch.Tensor = (right.mT * inverted.unsqueeze(-2)) @ left.mT
    return inverse


def _turned(value: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    *batch, rows, columns = value.shape
    return value.new_empty([*batch, columns, rows])


SHAPES: Mapping[Any, Callable[..., Any]] = {aten.linalg_pinv.atol_rtol_tensor: _turned}
"""What results are like, where PyTorch asks more of the sizes than that takes."""

BEFORE: Mapping[Any, Callable[..., Any]] = {
    aten.linalg_cholesky.default: _cholesky,
    aten.linalg_det.default: _determinant,
    aten.linalg_inv.default: _inverse,
    aten.linalg_lstsq.default: _least_squares,
    aten.linalg_lu_factor.default: _lu_factor,
    aten.linalg_matrix_norm.default: _matrix_norm,
    aten.linalg_matrix_norm.str_ord: _matrix_norm,
    aten.linalg_pinv.atol_rtol_float: _pseudo_inverse,
    aten.linalg_slogdet.default: _log_determinant,
    aten.linalg_solve.default: _solve,
    aten.logdet.default: _logarithm_of_determinant,
}
"""For what autograd has not looked at."""

AFTER: Mapping[Any, Callable[..., Any]] = {
    aten.cholesky.default: _cholesky,
    aten.cholesky_inverse.default: _cholesky_inverse,
    aten.cholesky_solve.default: _cholesky_solve,
    aten.linalg_pinv.atol_rtol_tensor: _pseudo_inverse_by_values,
    aten.triangular_solve.default: _triangular_solve,
}
"""For what autograd has looked at."""
