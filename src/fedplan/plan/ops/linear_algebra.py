"""Rows for solving systems of equations, and for the factors of matrices."""

import functools
from collections.abc import Mapping
from typing import Any

import torch

from fedplan.plan.ops import guards
from fedplan.plan.ops.op import Kind, Trait, checked, op

_row = functools.partial(op, Kind.FACTOR, traits=Trait.CHECKS_VALUES)
_by_memory = functools.partial(op, Kind.FACTOR, traits=Trait.CHECKS_VALUES | Trait.CONTIGUOUS)
"""Which of a matrix and its transpose is factored depends on how it lies in memory."""


def _if_pivoted(words: str) -> Any:
    """Torch 1.8 always looks for pivots."""

    def say(given: Mapping[str, Any]) -> str | None:
        return words if given["pivot"] else None

    return say


def _singular(matrix: torch.Tensor, full_matrices: bool = False, compute_uv: bool = True, **_: Any) -> Any:
    """Shapes of (left vectors, singular values, right vectors)."""
    *batch, rows, columns = matrix.shape
    inner: Any = torch.sym_min(rows, columns)  # type: ignore[no-untyped-call]
    vectors = (rows if full_matrices else inner), (columns if full_matrices else inner)
    shapes = [*batch, rows, vectors[0]], [*batch, inner], [*batch, vectors[1], columns]
    if not compute_uv:
        shapes = [0], shapes[1], [0]
    return tuple(matrix.new_empty(shape) for shape in shapes)


def _orthogonal(matrix: torch.Tensor, mode: str = "reduced") -> Any:
    """Shapes of (orthogonal matrix, triangular one)."""
    *batch, rows, columns = matrix.shape
    inner: Any = rows if mode == "complete" else torch.sym_min(rows, columns)  # type: ignore[no-untyped-call]
    first = [0] if mode == "r" else [*batch, rows, inner]
    return matrix.new_empty(first), matrix.new_empty([*batch, inner, columns])


ROWS = (
    _by_memory("_linalg_det.default", torchscript="@determinant({A})"),
    _row("_linalg_eigh.default", torchscript=None),
    _by_memory("_linalg_slogdet.default", torchscript="@log_determinant({A})"),
    _row("_linalg_solve_ex.default", torchscript="@solve({A}, {B}, {left})"),
    _row(
        "_linalg_svd.default",
        shapes=_singular,
        torchscript="@singular_values({A}, {full_matrices}, {compute_uv})",
    ),
    _row("linalg_cholesky_ex.default", torchscript="@cholesky({self}, {upper})"),
    _row("linalg_householder_product.default", torchscript="torch.orgqr({input}, {tau})"),
    _row("linalg_inv_ex.default", torchscript="@inverse({A})"),
    _row("linalg_lu.default", torchscript=_if_pivoted("@lower_and_upper({A})")),
    _row(
        "linalg_lu_factor_ex.default",
        torchscript=_if_pivoted("torch._lu_with_info({A}, True, {check_errors})"),
    ),
    _row(
        "linalg_lu_solve.default",
        kernel=checked("linalg_lu_solve.default", guards.pivots(1)),
        torchscript="@solve_factored({LU}, {pivots}, {B}, {left}, {adjoint})",
    ),
    _row("linalg_matrix_exp.default", torchscript="torch.matrix_exp({self})"),
    _row("linalg_qr.default", shapes=_orthogonal, torchscript="@orthogonal({A}, {mode})"),
    _row(
        "linalg_solve_triangular.default",
        torchscript="@solve_triangular({self}, {B}, {upper}, {left}, {unitriangular})",
    ),
    _row(
        "lu_unpack.default",
        kernel=checked("lu_unpack.default", guards.pivots(1)),
        torchscript="@unpack({LU_data}, {LU_pivots}, {unpack_data}, {unpack_pivots})",
    ),
)
"""All of them."""
