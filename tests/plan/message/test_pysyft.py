"""Functions and methods that PySyft records compute what PyTorch's do."""

from typing import Any

import pytest
import torch

from fedplan.errors import UnsupportedOpError
from fedplan.plan import Plan
from fedplan.plan.message.codec import _write_arg
from fedplan.plan.ops import OPS
from fedplan.plan.ops.foreign import ROWS
from fedplan.wire import schema
from tests.plan.message.test_codec import action, ref, role

torch.manual_seed(0)
X, Y = torch.randn(4, 6), torch.randn(4, 6)
SHARES = torch.rand(4, 6)
ROW, COLUMN = torch.randn(6), torch.randn(4)
BATCHES = torch.randn(2, 3, 4), torch.randn(2, 4, 5)
SERIES, PICTURES, VOLUMES = torch.randn(2, 4, 9), torch.randn(2, 4, 7, 8), torch.randn(2, 4, 5, 6, 7)
SIGNS = torch.tensor([1.0, -1.0, 1.0, -1.0])
PLACES = torch.tensor([3, 0])

F, T = "torch.nn.functional.", "torch."

CASES: list[tuple[Any, ...]] = [
    *((F + name, X) for name in ("celu", "hardshrink", "logsigmoid", "relu6", "selu", "softshrink")),
    (F + "glu", X, 1), (F + "prelu", X, torch.tensor([0.1])), (F + "threshold", X, 0.1, 2.0),
    (F + "softplus", X, 2, 10), (T + "frac", X), (T + "clamp_min", X, 0.1), (T + "clamp_max", X, 0.1),
    ("masked_fill", X, X > 0, 2.0), ("tril", X), ("triu", X, 1), (T + "roll", X, 1, 0), (T + "rot90", X),
    (T + "diag", ROW), (T + "diag_embed", X),
    (T + "logsumexp", X, 1), (T + "dist", X, Y), (T + "trace", X), (T + "trace", X),
    *((F + name, X, Y) for name in ("l1_loss", "smooth_l1_loss", "cosine_similarity", "pairwise_distance")),
    (F + "hinge_embedding_loss", X, X.sign()), (F + "soft_margin_loss", X, X.sign()),
    (F + "binary_cross_entropy", SHARES, SHARES.round()),
    (F + "poisson_nll_loss", X, SHARES), (F + "cosine_embedding_loss", X, Y, SIGNS),
    (F + "margin_ranking_loss", COLUMN, COLUMN + 1, SIGNS), (F + "triplet_margin_loss", X, Y, SHARES),
    (F + "layer_norm", X, [6], ROW, ROW), (F + "group_norm", SERIES, 2),
    (T + "mv", X, ROW), (T + "ger", COLUMN, ROW), (T + "addmv", COLUMN, X, ROW),
    (T + "addr", X, COLUMN, ROW), (T + "baddbmm", torch.randn(2, 3, 5), *BATCHES),
    (T + "conv1d", SERIES, torch.randn(3, 4, 2)), (T + "conv3d", VOLUMES, torch.randn(3, 4, 2, 2, 2)),
    (T + "conv_transpose1d", SERIES, torch.randn(4, 3, 2)),
    (T + "conv_transpose2d", PICTURES, torch.randn(4, 3, 2, 2), None, 2),
    (T + "conv_transpose3d", VOLUMES, torch.randn(4, 3, 2, 2, 2)),
    (F + "adaptive_avg_pool2d", PICTURES, [3, 2]), (F + "adaptive_avg_pool3d", VOLUMES, 2),
    (T + "max_pool1d", SERIES, 2), (T + "max_pool3d", VOLUMES, 2),
    ("expand_as", ROW, X), ("narrow", X, 1, 2, 3), ("reshape_as", X, Y), ("view_as", X, Y),
    ("unfold", X, 1, 3, 1),
    ("index_add", X, 0, PLACES, torch.ones(2, 6)), ("index_copy", X, 0, PLACES, torch.ones(2, 6)),
    ("index_fill", X, 0, PLACES, 2.0), ("take", X, PLACES),
]  # fmt: skip


def expected(command: str, *args: Any) -> Any:
    if "." not in command:
        return getattr(torch.Tensor, command)(*args)
    home = torch.nn.functional if command.startswith(F) else torch
    return getattr(home, command.rpartition(".")[2])(*args)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0].rpartition(".")[2])
def test_a_function_of_pysyft(case: tuple[Any, ...]) -> None:
    command, *args = case
    tensors = [arg for arg in args if isinstance(arg, torch.Tensor)]
    numbers = iter(range(len(tensors)))
    written: list[schema.Arg] = [
        ref(next(numbers))
        if isinstance(arg, torch.Tensor)
        else _write_arg(tuple(arg) if isinstance(arg, list) else arg)
        for arg in args
    ]
    plan = Plan.parse(role(action(command, *written), inputs=len(tensors)))
    torch.testing.assert_close(plan(*tensors)[0], expected(command, *args))


@pytest.mark.parametrize("name", ["l1_loss", "kl_div"])
def test_reductions_are_named(name: str) -> None:
    named = {"reduction": _write_arg("sum")}
    plan = Plan.parse(role(action(F + name, ref(0), ref(1), **named), inputs=2))
    expected = getattr(torch.nn.functional, name)(X, SHARES, reduction="sum")
    torch.testing.assert_close(plan(X, SHARES)[0], expected)


def test_every_row_is_tried() -> None:
    tried = {case[0].rpartition(".")[2] for case in CASES}
    names = {alias for row in ROWS for alias in (row.packet, *row.pysyft)}
    assert {row.packet for row in ROWS if row.packet not in tried and not set(row.pysyft) & tried} == {
        "kl_div", "std_mean", "var_mean",  # above; two results
    }  # fmt: skip
    assert names


def test_no_row_stands_twice() -> None:
    assert len(OPS) == len({id(row) for row in OPS.values()})


def test_a_function_that_no_row_is_for_is_refused_by_its_name() -> None:
    with pytest.raises(UnsupportedOpError, match="stft"):
        Plan.parse(role(action(T + "stft", ref(0), _write_arg(4))))
