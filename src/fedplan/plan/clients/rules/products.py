"""Products of matrices: one product of stacks, or of one tall matrix where all clients share the other."""

from typing import Any

from fedplan.plan.clients.lifting import Lifting, Made, Value


def product(lift: Lifting, a: Value, b: Value) -> Made:
    """`mm`: (n, m) by (m, p)."""
    if a.apart and not b.apart:
        return lift.from_rows(lift.aten("mm.default", lift.by_rows(a), b, apart=False), a.shape[0])
    return lift.aten("bmm.default", lift.whole(a), lift.whole(b))


def product_added(lift: Lifting, c: Value, a: Value, b: Value, beta: Any, alpha: Any) -> Made:
    """`addmm`: beta · c + alpha · (a @ b)."""
    return _added(lift, lift.aligned(c, 2), a, b, beta, alpha)


def _added(lift: Lifting, c: Value, a: Value, b: Value, beta: Any, alpha: Any) -> Value:
    return lift.aten("baddbmm.default", c, lift.whole(a), lift.whole(b), beta, alpha)


def product_of_stacks(lift: Lifting, a: Value, b: Value) -> Made:
    """`bmm`: (s, n, m) by (s, m, p)."""
    made = lift.aten("bmm.default", lift.by_rows(a), lift.by_rows(b), apart=False)
    return lift.from_rows(made, a.shape[0])


def stacks_added(lift: Lifting, c: Value, a: Value, b: Value, beta: Any, alpha: Any) -> Made:
    """`baddbmm`."""
    shape = tuple(lift.expected[0].shape)
    c = lift.aten("expand.default", lift.aligned(lift.whole(c), 3), (-1, *shape))
    rows = [lift.by_rows(value) for value in (c, a, b)]
    return lift.from_rows(lift.aten("baddbmm.default", *rows, beta, alpha, apart=False), shape[0])


def vector_product(lift: Lifting, matrix: Value, vector: Value) -> Made:
    """`mv`: (n, m) by (m)."""
    column = lift.shaped(vector, (*vector.shape, 1))
    made = lift.aten("bmm.default", lift.whole(matrix), lift.whole(column))
    return lift.shaped(made, matrix.shape[:1])


def vector_product_added(
    lift: Lifting, c: Value, matrix: Value, vector: Value, beta: Any, alpha: Any
) -> Made:
    """`addmv`: beta · c + alpha · (matrix @ vector)."""
    column, c = (lift.shaped(value, (*value.shape, 1)) for value in (vector, c))
    made = _added(lift, lift.aligned(c, 2), matrix, column, beta, alpha)
    return lift.shaped(made, matrix.shape[:1])


def inner(lift: Lifting, a: Value, b: Value) -> Made:
    """`dot`: (n) by (n)."""
    row, column = lift.shaped(a, (1, *a.shape)), lift.shaped(b, (*b.shape, 1))
    return lift.shaped(lift.aten("bmm.default", lift.whole(row), lift.whole(column)), ())


def outer(lift: Lifting, a: Value, b: Value) -> Made:
    """`ger`: (n) by (m)."""
    return lift.aten("mul.Tensor", lift.shaped(a, (*a.shape, 1)), lift.shaped(b, (1, *b.shape)))


def linear(lift: Lifting, x: Value, weight: Value, bias: Value | None) -> Made:
    """(…, inputs) by (outputs, inputs), and a bias."""
    if not weight.apart:
        rows = x.shape[0] if x.rank > 1 else 1
        flat = x if x.rank > 1 else lift.shaped(x, (1, *x.shape))
        shared = bias if bias is not None and not bias.apart else None
        made = lift.from_rows(
            lift.aten("linear.default", lift.by_rows(flat), weight, shared, apart=False), rows
        )
        made = lift.shaped(made, tuple(lift.expected[0].shape))
        if bias is None or not bias.apart:
            return made
        return lift.aten("add.Tensor", made, lift.aligned(bias, made.rank))
    rows = _rows(x.shape)
    a, b = lift.shaped(x, (rows, x.shape[-1])), lift.permuted(weight, (1, 0))
    if bias is None:
        made = lift.aten("bmm.default", lift.whole(a), b)
    else:
        made = _added(lift, lift.aligned(bias, 2), a, b, 1, 1)
    return lift.shaped(made, tuple(lift.expected[0].shape))


def _rows(shape: tuple[int, ...]) -> int:
    count = 1
    for extent in shape[:-1]:
        count *= extent
    return count
