"""Small examples of every operation of the op table."""

from typing import Any

import torch

from fedplan.plan import OPS
from fedplan.plan.ir.graph import Node, Ref
from tests.plan.variants.torchscript.samples import INF, M, N, Sample, b, d, f, i, p, results_of

_POINTWISE = """
    abs acos asin asinh atan atanh ceil cos cosh elu erf exp expm1 floor gelu hardtanh isinf isnan
    leaky_relu log log10 log1p log2 logical_not neg reciprocal relu round rsqrt sigmoid sign silu sin sinh
    sqrt tan tanh trunc
"""
_OF_FRACTIONS = ("elu", "gelu", "leaky_relu", "silu", "hardtanh", "atanh")
"""Those that PyTorch does not compute of integers, or not of ones."""
_BINARY = """
    add atan2 div eq fmod ge gt le lt maximum minimum mul ne pow remainder rsub sub
"""


def _rows() -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for name in _POINTWISE.split():
        rows += [(f"{name}.default", p(3, 4)), (f"{name}.default", d(2, 2))]
        if name not in _OF_FRACTIONS:
            rows += [(f"{name}.default", i(3, 3, 4) * 0 + 1)]
    for name in _BINARY.split():
        tensor = {"pow": "Tensor_Tensor"}.get(name, "default" if f"aten.{name}.default" in OPS else "Tensor")
        rows += [(f"{name}.{tensor}", p(3, 4), p(4)), (f"{name}.{tensor}", p(3, 4), d(3, 1))]
        if f"aten.{name}.Scalar" in OPS and name != "pow":
            rows += [(f"{name}.Scalar", p(3, 4), 0.5), (f"{name}.Scalar", i(9, 3, 4) + 1, 2)]
            rows += [(f"{name}.Tensor", i(9, 3, 4) + 1, i(9, 4) + 1)]
        if name in ("add", "sub", "mul", "div"):  # these take numbers as well
            rows += [(f"{name}.Tensor", p(3, 4), 0.5), (f"{name}.Tensor", d(2), 1e-9)]
    for name in ("and", "or", "xor"):
        rows += [(f"bitwise_{name}.Tensor", b(3, 4), b(4)), (f"bitwise_{name}.Scalar", i(9, 3, 4), 5)]
        rows += [(f"bitwise_{name}.Scalar", b(3, 4), True), (f"logical_{name}.default", f(3, 4), b(4))]
    for name in ("all", "any"):
        rows += [
            (f"{name}.default", b(3, 4)),
            (f"{name}.dim", b(3, 4), 1),
            (f"{name}.dim", b(3, 4), -2, True),
        ]
    for name in ("amax", "amin"):
        rows += [(f"{name}.default", f(3, 4)), (f"{name}.default", f(3, 4, 2), (0, -1), True)]
    for name in ("max", "min"):
        rows += [
            (f"{name}.default", f(3, 4)),
            (f"{name}.dim", f(3, 4), 1),
            (f"{name}.dim", i(9, 3, 1), -1, True),
        ]
        rows += [(f"arg{name}.default", f(3, 4)), (f"arg{name}.default", i(3, 3, 8), 1, True)]
    for name in ("sum", "mean", "prod"):
        over = "dim_int" if name == "prod" else "dim_IntList" if name == "sum" else "dim"
        dims = 1 if name == "prod" else (0, -1)
        rows += [(f"{name}.default", p(3, 4)), (f"{name}.default", i(5, 3, 4), "float32")]
        rows += [(f"{name}.{over}", p(3, 4, 2), dims), (f"{name}.{over}", p(3, 4, 2), dims, True, "float64")]
        if name != "prod":
            rows += [(f"{name}.{over}", p(3, 4), None), (f"{name}.{over}", p(3, 4), (), True)]
    for name in ("full_like", "ones_like", "zeros_like"):
        fill = (0.5,) if name == "full_like" else ()
        rows += [(f"{name}.default", f(3, 4), *fill), (f"{name}.default", f(3, 4), *fill, "float64")]
    return rows


_OTHERS: list[tuple[Any, ...]] = [
    ("acosh.default", p(3, 4) + 1.5),
    ("exp.default", torch.tensor([INF, -INF, 0.0])),
    ("isnan.default", torch.tensor([INF, float("nan"), 0.0])),
    ("round.default", torch.tensor([0.5, 1.5, 2.5, -0.5])),
    ("sigmoid.default", i(5, 3)),
    ("add.Tensor", f(3, 4), f(3, 4), 0.3),
    ("add.Tensor", i(5, 3), b(3)),
    ("add.Tensor", f(3, 4), 2, 3),
    ("add.Scalar", f(3, 4), 2, 3),
    ("sub.Tensor", f(3, 4), f(4), -2),
    ("mul.Tensor", b(3, 4), True),
    ("mul.Tensor", b(3, 4), f(3, 4)),
    ("mul.Tensor", f(3, 4), -INF),
    ("mul.Tensor", 2, f(3, 4)),
    ("mul.Tensor", 0.5, f(3, 4)),
    ("addcdiv.default", f(3, 4), f(3, 4), p(3, 4), -0.1),
    ("addcmul.default", f(3, 4), f(4), p(3, 4)),
    ("bitwise_not.default", b(3, 4)),
    ("bitwise_not.default", i(9, 3, 4)),
    ("clamp.default", f(3, 4), -0.5, 0.5),
    ("clamp.default", f(3, 4), 0),
    ("clamp.default", f(3, 4), None, 0),
    ("clamp.default", i(9, 3, 4), 1.5, 4.5),
    ("clamp.default", i(9, 3, 4), 2, 4),
    ("clamp.Tensor", f(3, 4), f(4), f(3, 4)),
    ("clamp.Tensor", f(3, 4), None, f(3, 1)),
    ("clamp.Tensor", f(3, 4), f(1)),
    *[("div.Tensor_mode", f(3, 4), p(3, 4), mode) for mode in ("floor", "trunc", None)],
    *[("div.Scalar_mode", i(9, 3, 4) - 4, 2, mode) for mode in ("floor", "trunc", None)],
    *[("div.Scalar_mode", i(9, 3, 4) - 4, -0.75, mode) for mode in ("floor", "trunc", None)],
    *[("div.Tensor_mode", i(9, 3, 4) - 4, i(3, 4) - 4, mode) for mode in ("floor", "trunc", None)],
    *[("div.Tensor_mode", f(3, 4), f(4), mode) for mode in ("floor", "trunc")],
    *[("div.Tensor_mode", f(3, 4), torch.tensor([0.0, 1, -0.0, -1]), mode) for mode in ("floor", "trunc")],
    ("elu.default", f(3, 4), 0.5, 2, 3),
    ("elu_backward.default", f(3, 4), 0.5, 2, 3, False, f(3, 4)),
    ("elu_backward.default", f(3, 4), 0.5, 1, 1, True, f(3, 4)),
    ("eq.Scalar", b(3, 4), True),
    ("eq.Tensor", i(3, 3, 4), i(3, 4)),
    ("gelu.default", f(3, 4), "tanh"),
    ("gelu_backward.default", f(3, 4), f(3, 4)),
    ("gelu_backward.default", f(3, 4), f(3, 4), "tanh"),
    ("hardtanh.default", f(3, 4), -0.5, 0.2),
    ("hardtanh_backward.default", f(3, 4), f(3, 4), -0.5, 0.2),
    ("leaky_relu.default", f(3, 4), 0.2),
    ("leaky_relu_backward.default", f(3, 4), f(3, 4), 0.2, False),
    ("lerp.Scalar", f(3, 4), f(3, 4), 0.1),
    ("lerp.Tensor", f(3, 4), f(3, 4), p(3, 4)),
    ("mse_loss_backward.default", f(3, 4), f(3, 4), f(3, 4), 0),
    ("mse_loss_backward.default", f(), f(3, 4), f(3, 4), 1),
    ("pow.Scalar", 0.9, p(3)),
    ("pow.Scalar", 0.999, d()),
    ("pow.Tensor_Scalar", p(3, 4), 2),
    ("pow.Tensor_Scalar", p(3, 4), -0.5),
    ("remainder.Tensor", f(3, 4), f(3, 4)),
    ("rsub.Scalar", f(3, 4), 1, 2),
    ("sigmoid_backward.default", f(3, 4), p(3, 4)),
    ("silu_backward.default", f(3, 4), f(3, 4)),
    ("tanh_backward.default", f(3, 4), f(3, 4)),
    ("threshold_backward.default", f(3, 4), f(3, 4), 0),
    ("where.self", b(3, 4), f(3, 4), f(4)),
    ("where.self", b(3, 4), f(3, 4), d(3, 1)),
    ("where.self", b(3, 4), f(3, 4), f()),
    ("where.self", b(3, 4), i(5, 4), f(3, 4)),
    ("where.ScalarSelf", b(3, 4), 0.5, f(3, 4)),
    ("where.ScalarSelf", b(3, 4), 2, d(3, 4)),
    ("where.ScalarOther", b(3, 4), f(3, 4), -INF),
    ("where.ScalarOther", b(3, 4), i(5, 3, 4), 0),
    ("where.ScalarOther", b(3, 4), i(5, 3, 4), 0.5),
    ("_to_copy.default", f(3, 4)),
    *[("_to_copy.default", p(3, 4) * 9, dtype) for dtype in ("int64", "int32", "uint8", "bool", "float64")],
    ("all.default", f(3, 4)),
    ("any.default", i(2, 3, 4)),
    ("any.dim", f(3, 4), 1),
    ("any.dims", b(3, 4, 2), (0, -1)),
    ("any.dims", b(3, 4, 2), None, True),
    ("cumsum.default", f(3, 4), 1),
    ("cumsum.default", i(5, 3, 4), -2, "float32"),
    *[("linalg_vector_norm.default", f(3, 4), order, dims, True) for order in (2, 1, 0, 3.5, INF, -INF)
      for dims in ((0,), (0, 1), (-1,))],
    ("linalg_vector_norm.default", f(3, 4)),
    ("linalg_vector_norm.default", f(3, 4, 2), 2, (0, 2), False, "float64"),
    ("linalg_vector_norm.default", f()),
    ("mse_loss.default", f(3, 4), f(3, 4)),
    ("mse_loss.default", f(3, 4), f(3, 4), 0),
    ("mse_loss.default", f(3, 4), f(3, 4), 2),
    ("nll_loss_forward.default", f(5, 3), i(3, 5), None, 1, -100),
    ("nll_loss_forward.default", f(5, 3), i(3, 5), p(3), 2, 1),
    ("nll_loss_forward.default", f(5, 3), i(3, 5), None, 0, -100),
    ("sort.default", f(3, 4)),
    ("sort.default", f(3, 4), 0, True),
    ("topk.default", f(3, 4), 2),
    ("topk.default", f(3, 4), 1, 0, False),
    ("var.correction", f(3, 4)),
    ("var.correction", f(3, 4), (1,), 0, True),
    ("var.correction", f(3, 4, 2), (0, -1), 1),
    ("var.correction", f(3, 4, 2), (0, -1), 2.5),
    ("diagonal.default", f(3, 4, 2)),
    ("diagonal.default", f(3, 4, 2), 1, 0, 2),
    ("expand.default", f(3, 1), (2, -1, 4)),
    ("permute.default", f(3, 4, 2), (2, 0, 1)),
    ("reshape.default", f(3, 4), (2, -1)),
    ("reshape.default", f(1), ()),
    ("select.int", f(3, 4), 1, -1),
    ("slice.Tensor", f(3, 4), 1, 1, 3),
    ("slice.Tensor", f(3, 4), 1),
    ("slice.Tensor", f(3, 4), 1, None, -1, 2),
    ("slice.Tensor", f(3, 4), 0, 1, 9223372036854775807),
    ("split.Tensor", f(5, 4), 2),
    ("split.Tensor", f(2, 4), 4, 1),
    ("split_with_sizes.default", f(5, 4), (2, 3)),
    ("squeeze.default", f(1, 3, 1)),
    ("squeeze.dim", f(1, 3, 1), -1),
    ("squeeze.dims", f(1, 3, 1, 1), (0, -1)),
    ("squeeze.dims", f(1, 3, 1, 1), (1, 2)),
    ("transpose.int", f(3, 4, 2), 0, -1),
    ("unbind.int", f(3, 4)),
    ("unbind.int", f(1, 4)),
    ("unsqueeze.default", f(3, 4), -1),
    ("addmm.default", f(4), f(3, 2), f(2, 4)),
    ("addmm.default", f(3, 4), f(3, 2), f(2, 4), 0.5, 2),
    ("bmm.default", f(2, 3, 4), f(2, 4, 5)),
    ("mm.default", f(3, 4), f(4, 5)),
    ("mm.default", i(4, 3, 4), i(4, 4, 5)),
    ("_log_softmax.default", f(3, 4), 1, False),
    ("_log_softmax_backward_data.default", f(3, 4), f(3, 4), 1, "float32"),
    ("_softmax.default", f(3, 4), -2, False),
    ("_softmax_backward_data.default", f(3, 4), p(3, 4), -1, "float32"),
    ("native_layer_norm.default", f(3, 2, 4), (4,), f(4), f(4), 1e-5),
    ("native_layer_norm.default", f(3, 2, 4), (2, 4), None, None, 1e-3),
    ("native_layer_norm.default", f(2, 4), (2, 4), f(2, 4), f(2, 4), 1e-3),
    ("native_layer_norm_backward.default", f(3, 2, 4), f(3, 2, 4), (4,), f(3, 2, 1), p(3, 2, 1), f(4), f(4),
     (True, True, True)),
    ("native_layer_norm_backward.default", f(3, 2, 4), f(3, 2, 4), (2, 4), f(3, 1, 1), p(3, 1, 1), None, None,
     (True, False, False)),
    ("native_layer_norm_backward.default", f(2, 4), f(2, 4), (2, 4), f(1, 1), p(1, 1), None, None,
     (True, False, False)),
    ("_native_batch_norm_legit_functional.default", f(5, 3, 2, 2), f(3), f(3), f(3), p(3), True, 0.1, 1e-5),
    ("_native_batch_norm_legit_functional.default", f(5, 3), None, None, f(3), p(3), True, 0.3, 1e-5),
    ("_native_batch_norm_legit_functional.default", f(5, 3, 2), f(3), f(3), f(3), p(3), False, 0.1, 1e-5),
    ("_native_batch_norm_legit.no_stats", f(5, 3, 2), f(3), f(3), True, 0.1, 1e-5),
    ("_native_batch_norm_legit_no_training.default", f(5, 3, 2, 2), f(3), f(3), f(3), p(3), 0.1, 1e-5),
    ("native_batch_norm_backward.default", f(5, 3, 2), f(5, 3, 2), f(3), None, None, f(3), p(3), True, 1e-5,
     (True, True, True)),
    ("native_batch_norm_backward.default", f(5, 3, 2, 2), f(5, 3, 2, 2), f(3), f(3), p(3), f(3), p(3), False,
     1e-5, (True, True, True)),
    ("native_batch_norm_backward.default", f(5, 3), f(5, 3), None, None, None, f(3), p(3), True, 1e-5,
     (True, False, False)),
    ("native_group_norm.default", f(2, 4, 3), f(4), f(4), 2, 4, 3, 2, 1e-5),
    ("native_group_norm.default", f(2, 4, 3, 3), None, None, 2, 4, 9, 4, 1e-5),
    ("native_group_norm_backward.default", f(2, 4, 3), f(2, 4, 3), f(2, 2), p(2, 2), f(4), 2, 4, 3, 2,
     (True, True, True)),
    ("embedding.default", f(9, 4), i(9, 3, 2)),
    ("embedding.default", f(9, 4), i(9, 3, 2), 0),
    ("embedding_dense_backward.default", f(3, 2, 4), i(9, 3, 2), 9, -1, False),
    ("embedding_dense_backward.default", f(3, 2, 4), i(3, 3, 2), 9, 1, False),
    ("gather.default", f(3, 4), 1, i(4, 3, 2)),
    ("index.Tensor", f(3, 4), [i(3, 5)]),
    ("index.Tensor", f(3, 4), [None, i(4, 5)]),
    ("index.Tensor", f(3, 4, 5), [i(3, 2), None, i(5, 2)]),
    ("index_put.default", f(3, 4), [i(3, 5), i(4, 5)], f(5), True),
    ("index_put.default", f(3, 4), [None, torch.tensor([0, 2])], f(2)),
    ("index_select.default", f(3, 4), 1, i(4, 6)),
    ("nll_loss_backward.default", f(), f(5, 3), i(3, 5), None, 1, -100, torch.tensor(5.0)),
    ("nll_loss_backward.default", f(), f(5, 3), i(3, 5), p(3), 2, 1, torch.tensor(2.0)),
    ("nll_loss_backward.default", f(5), f(5, 3), i(3, 5), None, 0, -100, torch.tensor(0.0)),
    ("scatter.src", f(3, 4), 1, torch.tensor([[0, 2], [1, 3]]), f(2, 2)),
    ("scatter.value", f(3, 4), 1, i(4, 3, 1), 1.5),
    ("scatter.value", torch.zeros(3, 4, dtype=torch.int64), 1, i(4, 3, 1), 1),
    ("scatter_add.default", f(3, 4), 1, i(4, 3, 4), f(3, 4)),
    ("select_scatter.default", f(3, 4), f(3), 1, -1),
    ("slice_scatter.default", f(3, 4), f(3, 2), 1, 1, 3),
    ("slice_scatter.default", f(3, 4), f(2, 4), 0, None, None, 2),
    ("_adaptive_avg_pool2d.default", f(2, 3, 5, 4), (2, 2)),
    ("_adaptive_avg_pool2d_backward.default", f(2, 3, 2, 2), f(2, 3, 5, 4)),
    ("adaptive_avg_pool1d.default", f(2, 3, 5), (2,)),
    ("avg_pool1d.default", f(2, 3, 5), (2,)),
    ("avg_pool2d.default", f(2, 3, 6, 5), (2, 2)),
    ("avg_pool2d.default", f(2, 3, 6, 5), (3, 2), (2, 1), (1, 0), True, False, None),
    ("avg_pool2d.default", f(2, 3, 6, 5), (3, 3), (2, 2), (1, 1), False, True, 5),
    ("avg_pool2d_backward.default", f(2, 3, 3, 2), f(2, 3, 6, 5), (2, 2), (), (0, 0), False, True, None),
    ("avg_pool2d_backward.default", f(2, 3, 3, 3), f(2, 3, 6, 5), (3, 3), (2, 2), (1, 1), False, False, None),
    ("max_pool2d_with_indices.default", f(2, 3, 6, 5), (2, 2)),
    ("max_pool2d_with_indices.default", f(2, 3, 6, 5), (3, 3), (2, 2), (1, 1), (1, 1), True),
    ("max_pool2d_with_indices_backward.default", f(2, 3, 3, 2), f(2, 3, 6, 5), (2, 2), (2, 2), (0, 0), (1, 1),
     False, i(30, 2, 3, 3, 2)),
    ("arange.start_step", 0, 5),
    ("arange.start_step", 1, 2, 0.25, "float64"),
    ("cat.default", [f(3, 4), f(1, 4)]),
    ("cat.default", [f(3, 4), d(3, 1)], -1),
    ("constant_pad_nd.default", f(3, 4), (1, 0, 2, -1), 0.5),
    ("constant_pad_nd.default", f(3, 4), (1, 1)),
    ("eye.default", 3),
    ("eye.default", 3, "int64"),
    ("flip.default", f(3, 4), (0, -1)),
    ("full.default", (2, 3), 0.5),
    ("full.default", (), 2),
    ("full.default", (2,), True, "bool"),
    ("full.default", (2,), -INF, "float32"),
    ("full.default", (2,), float("nan")),
    ("full.default", (2,), -(2**63), "int64"),
    ("full_like.default", b(2), True),
    ("repeat.default", f(3, 4), (2, 1, 3)),
    ("scalar_tensor.default", 0.1, "float64"),
    ("scalar_tensor.default", 3),
    ("scalar_tensor.default", True, "bool"),
    ("stack.default", [f(3, 4), f(3, 4)], -1),
    ("binary_cross_entropy_with_logits.default", f(3, 4), p(3, 4)),
    ("binary_cross_entropy_with_logits.default", f(3, 4), p(3, 4), p(4), p(4), 2),
    ("cross_entropy_loss.default", f(5, 3), i(3, 5)),
    ("cross_entropy_loss.default", f(5, 3, 2, 2), i(3, 5, 2, 2), p(3), 2),
    ("cross_entropy_loss.default", f(5, 3), p(5, 3)),
    ("cross_entropy_loss.default", f(5, 3, 2), p(5, 3, 2), p(3), 0),
    ("cross_entropy_loss.default", f(5, 3, 2), p(5, 3, 2), p(3)),
    *[("cross_entropy_loss.default", f(5, 3), i(3, 5), weight, reduction, ignored, 0.2)
      for weight in (None, p(3)) for reduction in (0, 1, 2) for ignored in (-100, 1)],
    ("cross_entropy_loss.default", f(5, 3, 2, 2), i(3, 5, 2, 2), p(3), 1, 1, 0.2),
    ("cross_entropy_loss.default", f(5, 3), p(5, 3), p(3), 1, -100, 0.2),
    ("dot.default", f(4), f(4)),
    ("norm.Scalar", f(3, 4)),
    ("norm.ScalarOpt_dim", f(3, 4), 2, (1,), True),
    ("norm.ScalarOpt_dim", f(3, 4), None, (1,)),
    ("chunk.default", f(5, 4), 2),
    ("flatten.using_ints", f(3, 4, 2), 1),
    ("t.default", f(3, 4)),
    ("linear.default", f(3, 4), f(2, 4), f(2)),
    ("linear.default", f(3, 4), f(2, 4)),
    ("matmul.default", f(2, 3, 4), f(4, 5)),
    ("conv2d.default", f(2, 4, 6, 5), f(6, 2, 3, 3), f(6), (1, 2), (1, 1), (1, 1), 2),
    ("log_softmax.int", f(3, 4), 1),
    ("softmax.int", f(3, 4), -1, "float64"),
    ("one_hot.default", i(4, 5), 4),
    ("max_pool2d.default", f(2, 3, 6, 5), (2, 2)),
]  # fmt: skip

_ADDED: list[tuple[Any, ...]] = [
    *[(f"{name}.default", p(3, 4)) for name in ("digamma", "erfc", "erfinv", "exp2", "i0", "lgamma")],
    ("signbit.default", f(3, 4)),
    *[(f"{name}.default", d(2, 3) + 1.5) for name in ("digamma", "erfc", "exp2", "i0", "lgamma")],
    *[(f"{name}.default", f(3, 4), f(4)) for name in ("fmax", "fmin", "hypot", "nextafter")],
    *[(f"{name}.default", p(3, 4), p(4)) for name in ("igamma", "igammac")],
    *[(f"{name}.default", i(20, 3, 4), i(9, 4)) for name in ("gcd", "lcm")],
    *[(f"special_{name}.default", p(3, 4)) for name in ("erfcx", "i0e", "i1", "i1e", "ndtri")],
    ("special_zeta.default", p(3, 4) + 2, p(3, 4)),
    ("polygamma.default", 2, p(3, 4)),
    ("copysign.Scalar", f(3, 4), -2.5),
    ("copysign.Tensor", f(3, 4), f(3, 1)),
    *[(f"bitwise_{side}_shift.Tensor", i(9, 3, 4), i(3, 4)) for side in ("left", "right")],
    *[(f"bitwise_{side}_shift.Tensor_Scalar", i(9, 3, 4), 2) for side in ("left", "right")],
    ("bucketize.Tensor", f(3, 4), torch.tensor([-0.5, 0.0, 0.5])),
    ("bucketize.Tensor", f(3, 4), torch.tensor([-0.5, 0.0, 0.5]), True, True),
    ("bucketize.Scalar", 0.25, torch.tensor([-0.5, 0.0, 0.5])),
    ("searchsorted.Tensor", torch.tensor([-0.5, 0.0, 0.5]), f(3, 4)),
    ("searchsorted.Tensor", torch.tensor([[0, 1, 2], [1, 1, 3]]), i(4, 2, 5), False, True),
    ("searchsorted.Scalar", torch.tensor([-0.5, 0.0, 0.5]), 0.1),
    *[(f"{name}.default", f(3, 4), dim) for name in ("cummax", "cummin", "cumprod", "logcumsumexp")
      for dim in (0, -1)],
    ("cumprod.default", i(3, 3, 4) + 1, 1, "float32"),
    ("histc.default", f(30), 7, -1, 1),
    ("histc.default", f(5, 6)),
    ("kthvalue.default", f(3, 5), 2),
    ("kthvalue.default", f(3, 5), 3, 0, True),
    ("mode.default", i(3, 3, 9)),
    *[(f"{name}.default", f(3, 5)) for name in ("median", "nanmedian")],
    *[(f"{name}.dim", f(3, 5), 1, True) for name in ("median", "nanmedian")],
    ("nanmedian.dim", torch.tensor([[float("nan"), 1.0, 2.0], [3.0, float("nan"), float("nan")]]), 1),
    ("sort.stable", i(3, 3, 9), True, 1, True),
    ("scatter_reduce.two", f(3, 4), 1, i(4, 3, 5), f(3, 5), "sum"),
    ("tril_indices.default", 3, 4),
    ("triu_indices.default", 3, 3, 1, "int64"),
    ("triu_indices.default", 4, 3, -1, "int32"),
]  # fmt: skip


_A, _B = f(3, 3) + torch.eye(3) * 2, f(2, 4, 4) + torch.eye(4) * 2
_TRIANGLE = torch.tril(f(3, 3)) + torch.eye(3) * 2
_LU = torch.linalg.lu_factor(_A.flip(0))
_LUS = torch.linalg.lu_factor(_B.flip(1))
_SYMMETRIC = _A + _A.mT

_MATRICES: list[tuple[Any, ...]] = [
    ("_linalg_det.default", _A),
    ("_linalg_slogdet.default", _B),
    ("_linalg_eigh.default", _SYMMETRIC),
    ("_linalg_solve_ex.default", _A, f(3, 2)),
    ("_linalg_solve_ex.default", _B, f(2, 4, 2)),
    ("_linalg_solve_ex.default", _A, f(2, 3), False),
    ("_linalg_svd.default", f(4, 3)),
    ("_linalg_svd.default", f(3, 4), False, False),
    ("linalg_cholesky_ex.default", _A @ _A.mT),
    ("linalg_cholesky_ex.default", _B @ _B.mT, True, True),
    ("linalg_householder_product.default", *torch.geqrf(f(4, 3))),
    ("linalg_inv_ex.default", _A),
    ("linalg_inv_ex.default", _B, True),
    ("linalg_lu.default", f(4, 3)),
    ("linalg_lu.default", f(2, 3, 4)),
    ("linalg_lu_factor_ex.default", _A),
    ("linalg_lu_factor_ex.default", _B, True, True),
    *[("linalg_lu_solve.default", *_LU, f(3, 3), left, adjoint) for left in (True, False)
      for adjoint in (True, False)],
    *[("linalg_lu_solve.default", *_LUS, f(2, 4, 4), left, adjoint) for left in (True, False)
      for adjoint in (True, False)],
    ("linalg_matrix_exp.default", f(3, 3)),
    ("linalg_qr.default", f(4, 3)),
    ("linalg_qr.default", f(4, 3), "complete"),
    ("linalg_solve_triangular.default", _TRIANGLE, f(3, 2), False),
    ("linalg_solve_triangular.default", _TRIANGLE.mT.contiguous(), f(2, 3), True, False),
    ("linalg_solve_triangular.default", _TRIANGLE, f(3, 2), False, True, True),
    ("lu_unpack.default", *_LU),
    ("lu_unpack.default", *_LUS),
]  # fmt: skip
"""Read through a transposition, most of these are other matrices, for which other things are true."""

_PICTURE, _SERIES, _VOLUME = f(2, 3, 6, 5), f(2, 3, 6), f(2, 2, 4, 5, 3)


def _sampled() -> list[tuple[Any, ...]]:
    made: list[tuple[Any, ...]] = []
    for name, value, sizes, options in [
        ("upsample_nearest1d", _SERIES, [(9,), (4,)], [(), (1.5,)]),
        ("upsample_nearest2d", _PICTURE, [(9, 10), (3, 4)], [(), (1.5, 2.0)]),
        ("upsample_nearest3d", _VOLUME, [(8, 5, 6)], [()]),
        ("_upsample_nearest_exact1d", _SERIES, [(9,), (4,)], [(), (1.5,)]),
        ("_upsample_nearest_exact2d", _PICTURE, [(9, 10), (4, 4)], [(), (1.5, 2.0)]),
        ("_upsample_nearest_exact3d", _VOLUME, [(8, 5, 6)], [()]),
        ("upsample_linear1d", _SERIES, [(9,), (4,)], [(True,), (False,), (False, 1.5)]),
        ("upsample_bilinear2d", _PICTURE, [(9, 10), (3, 4)], [(True,), (False,)]),
        ("upsample_bicubic2d", _PICTURE, [(9, 10), (3, 4)], [(True,), (False,)]),
        ("upsample_trilinear3d", _VOLUME, [(8, 5, 6)], [(True,), (False,)]),
        ("_upsample_bilinear2d_aa", _PICTURE, [(9, 10), (3, 4)], [(False,)]),
        ("_upsample_bicubic2d_aa", _PICTURE, [(3, 4)], [(False,)]),
    ]:
        for size in sizes:
            gradient = f(*value.shape[:2], *size)
            for option in options:
                made.append((f"{name}.default", value, size, *option))
                made.append((f"{name}_backward.default", gradient, size, tuple(value.shape), *option))
    grid, grid3 = f(2, 4, 3, 2) * 1.2, f(2, 3, 4, 3, 3) * 1.2
    for mode in (0, 1, 2):
        for padding in (0, 1, 2):
            settings = (mode, padding, padding == 1)
            made.append(("grid_sampler_2d.default", _PICTURE, grid, *settings))
            made.append(
                ("grid_sampler_2d_backward.default", f(2, 3, 4, 3), _PICTURE, grid, *settings, (True, True))
            )
            if mode < 2:
                made.append(("grid_sampler_3d.default", _VOLUME, grid3, *settings))
                gradient = f(2, 2, 3, 4, 3)
                made.append(
                    ("grid_sampler_3d_backward.default", gradient, _VOLUME, grid3, *settings, (True, True))
                )
    return made


_POOLS: list[tuple[Any, ...]] = [
    ("_adaptive_avg_pool3d.default", _VOLUME, (2, 3, 2)),
    ("_adaptive_avg_pool3d_backward.default", f(2, 2, 2, 3, 2), _VOLUME),
    ("adaptive_max_pool2d.default", _PICTURE, (4, 2)),
    ("adaptive_max_pool2d_backward.default", f(2, 3, 4, 2), _PICTURE, i(30, 2, 3, 4, 2)),
    ("adaptive_max_pool3d.default", _VOLUME, (2, 3, 2)),
    ("adaptive_max_pool3d_backward.default", f(2, 2, 2, 3, 2), _VOLUME, i(60, 2, 2, 2, 3, 2)),
    ("avg_pool3d.default", _VOLUME, (2, 2, 2)),
    ("avg_pool3d.default", _VOLUME, (2, 3, 2), (2, 1, 1), (1, 1, 0), True, False, None),
    ("avg_pool3d_backward.default", f(2, 2, 2, 2, 1), _VOLUME, (2, 2, 2), (), (0, 0, 0), False, True, None),
    ("max_pool3d_with_indices.default", _VOLUME, (2, 2, 2)),
    ("max_pool3d_with_indices.default", _VOLUME, (3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1), True),
    ("max_pool3d_with_indices_backward.default", f(2, 2, 2, 2, 1), _VOLUME, (2, 2, 2), (2, 2, 2), (0, 0, 0),
     (1, 1, 1), False, i(60, 2, 2, 2, 2, 1)),
]  # fmt: skip

_SCORES = f(6, 2, 5).log_softmax(-1)
_TARGETS, _LENGTHS, _WANTED = i(4, 2, 3) + 1, torch.tensor([6, 5]), torch.tensor([3, 2])
_ALPHAS = torch.ops.aten._ctc_loss.Tensor(_SCORES, _TARGETS, _LENGTHS, _WANTED, 0, False)

_ALIGNMENTS: list[tuple[Any, ...]] = [
    ("_ctc_loss.Tensor", _SCORES, _TARGETS, _LENGTHS, _WANTED),
    ("_ctc_loss.Tensor", _SCORES, i(4, 5) + 1, _LENGTHS, _WANTED, 0, True),
    ("_ctc_loss_backward.Tensor", f(2), _SCORES, _TARGETS, _LENGTHS, _WANTED, *_ALPHAS, 0, False),
]

_SIZES: list[tuple[Any, ...]] = [
    *[(f"sym.{name}", N, M) for name in ("add", "sub", "mul", "floordiv", "mod", "truediv", "max", "min")],
    *[(f"sym.{name}", M, -4) for name in ("add", "sub", "mul", "floordiv", "mod", "truediv", "max", "min")],
    ("sym.add", N, 0.5),
    ("sym.neg", N),
    ("sym.float", N),
    ("sym.float", 2),
    ("aten.sym_size.int", Ref(0), -1),
    ("aten.sym_numel.default", Ref(0)),
]

_ALL = (True, True, True)


def _convolutions() -> list[Sample]:
    """Of input, weight, stride, padding, dilation, transposed, output padding, groups; with gradients."""
    made = []
    for x, w, *settings in [
        (f(2, 3, 7), f(4, 3, 3), (1,), (0,), (1,), False, (0,), 1),
        (f(2, 4, 7), f(6, 2, 3), (2,), (2,), (2,), False, (0,), 2),
        (f(2, 3, 6, 5), f(4, 3, 3, 3), (1, 1), (1, 1), (1, 1), False, (0, 0), 1),
        (f(2, 3, 8, 7), f(4, 3, 3, 2), (2, 3), (1, 0), (1, 2), False, (0, 0), 1),
        (f(1, 4, 8, 7), f(4, 1, 3, 3), (2, 2), (1, 1), (1, 1), False, (0, 0), 4),
        (f(2, 3, 8, 7), f(4, 3, 1, 1), (2,), (0,), (1,), False, (0,), 1),
        (f(2, 4, 4, 5), f(4, 3, 3, 3), (2, 2), (1, 1), (1, 1), True, (1, 1), 1),
        (f(2, 4, 4, 5), f(4, 3, 2, 3), (1, 2), (0, 1), (2, 1), True, (0, 0), 2),
        (f(2, 2, 4, 5, 6), f(3, 2, 2, 3, 2), (1, 2, 1), (0, 1, 0), (1, 1, 2), False, (0, 0, 0), 1),
    ]:
        bias = f(settings[5] * w.shape[1] if settings[3] else w.shape[0])
        made.append(Sample("aten.convolution.default", (x, w, bias, *settings)))
        made.append(Sample("aten.convolution.default", (x, w, None, *settings)))
        gradient = f(
            *results_of(Node("aten.convolution.default", (Ref(0), Ref(1), None, *settings), ()), [x, w])[
                0
            ].shape
        )
        sizes = tuple(bias.shape)
        for mask in (_ALL, (False, True, False)):
            args = (gradient, x, w, sizes, *settings, mask)
            made.append(Sample("aten.convolution_backward.default", args))
    return made


_ALL_ROWS = (
    *_rows(),
    *_OTHERS,
    *_ADDED,
    *_MATRICES,
    *_sampled(),
    *_POOLS,
    *_ALIGNMENTS,
    *_SIZES,
)

SAMPLES: list[Sample] = [
    *(
        Sample(name if name.startswith(("aten.", "sym.")) else f"aten.{name}", tuple(rest))
        for name, *rest in _ALL_ROWS
    ),
    *_convolutions(),
]
