"""Factors of matrices and systems of equations, which PyTorch computes of any stack of matrices."""

from typing import Any

from fedplan.plan.clients.lifting import Lifting, Made, Value


def stacks(lift: Lifting, *args: Any) -> Made:
    """Each client has its matrices; lists beside them, such as pivots, have a dimension less."""
    made = lift.again(*(lift.whole(arg) if isinstance(arg, Value) else arg for arg in args))
    return [
        value if value is None or meta.numel() else lift.without_elements(value, meta)
        for value, meta in zip(made, lift.expected, strict=True)
    ]


def solved(lift: Lifting, matrix: Value, other: Value, *rest: Any) -> Made:
    """Systems of equations, whose right side is a stack of matrices or of vectors."""
    matrix, other = lift.whole(matrix), lift.whole(other)
    if other.shape != matrix.shape[:-1]:  # no vectors
        rank = max(matrix.rank, other.rank)
        matrix, other = lift.aligned(matrix, rank), lift.aligned(other, rank)
    return lift.again(matrix, other, *rest)


def multiplied(lift: Lifting, a: Value, b: Value) -> Made:
    """`matmul` of vectors, matrices and stacks."""
    if a.rank == 1:
        a = lift.shaped(a, (1, *a.shape))
    if b.rank == 1:
        b = lift.shaped(b, (*b.shape, 1))
    rank = max(a.rank, b.rank)
    return lift.fitting(lift.again(lift.aligned(a, rank), lift.aligned(b, rank)))
