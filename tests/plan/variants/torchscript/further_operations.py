"""Small examples of special functions, linear algebra, interpolation, pools and alignments."""

from typing import Any

import torch

from tests.plan.variants.torchscript.samples import d, f, i, p

_A, _B = f(3, 3) + torch.eye(3) * 2, f(2, 4, 4) + torch.eye(4) * 2
_TRIANGLE = torch.tril(f(3, 3)) + torch.eye(3) * 2
_LU = torch.linalg.lu_factor(_A.flip(0))
_LUS = torch.linalg.lu_factor(_B.flip(1))
_SYMMETRIC = _A + _A.mT

MATRICES: list[tuple[Any, ...]] = [
    ("_linalg_det.default", _A),
    ("_linalg_slogdet.default", _B),
    ("_linalg_eigh.default", _SYMMETRIC),
    ("_linalg_solve_ex.default", _A, f(3, 2)),
    ("_linalg_solve_ex.default", _B, f(2, 4, 2)),
    ("_linalg_solve_ex.default", _A, f(2, 3), False),
    ("_linalg_solve_ex.default", _A, f(3)),
    ("_linalg_solve_ex.default", _B, f(2, 4)),
    # of vectors the signs are not given
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
    ("linalg_qr.default", f(4, 3), "r"),
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
    for mode in (0, 1):
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


SAMPLED = _sampled()

POOLS: list[tuple[Any, ...]] = [
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

ALIGNMENTS: list[tuple[Any, ...]] = [
    ("_ctc_loss.Tensor", _SCORES, _TARGETS, _LENGTHS, _WANTED),
    ("_ctc_loss.Tensor", _SCORES, i(4, 5) + 1, _LENGTHS, _WANTED, 0, True),
    ("_ctc_loss_backward.Tensor", f(2), _SCORES, _TARGETS, _LENGTHS, _WANTED, *_ALPHAS, 0, False),
]

FUNCTIONS: list[tuple[Any, ...]] = [
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
    ("copysign.Scalar", f(3, 4), -0.0),
    ("copysign.Scalar", i(9, 3, 4), -1),
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
