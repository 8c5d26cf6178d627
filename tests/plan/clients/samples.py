"""Small examples of operations that only Plans made elsewhere hold, and of recurrent layers."""

from typing import Any

import torch

from tests.plan.recurrence.cases import Case
from tests.plan.variants.torchscript.samples import Sample, b, d, f, i, p

_CLASSES, _SIGNS = i(3, 5), b(4).to(torch.float32) * 2 - 1

_LOSSES: list[tuple[Any, ...]] = [
    *(
        (f"{name}.default", f(4, 3), f(4, 3), reduction)
        for name in ("l1_loss", "smooth_l1_loss", "soft_margin_loss", "mse_loss")
        for reduction in (0, 1, 2)
    ),
    *(("binary_cross_entropy.default", torch.rand(4, 3), torch.rand(4, 3), None, r) for r in (0, 1, 2)),
    *(("hinge_embedding_loss.default", f(4, 3), f(4, 3).sign(), 1.0, r) for r in (0, 1, 2)),
    *(("kl_div.default", f(4, 3), torch.rand(4, 3), r) for r in (0, 1, 2)),
    *(("poisson_nll_loss.default", f(4, 3), torch.rand(4, 3), True, True, 1e-8, r) for r in (0, 1)),
    *(("margin_ranking_loss.default", f(4), f(4), _SIGNS, 0.5, r) for r in (0, 1, 2)),
    *(("cosine_embedding_loss.default", f(4, 3), f(4, 3), _SIGNS, 0.5, r) for r in (0, 1, 2)),
    *(("triplet_margin_loss.default", f(4, 3), f(4, 3), f(4, 3), 1.0, 2, 1e-6, False, r) for r in (0, 1)),
    ("cosine_similarity.default", f(4, 3), f(4, 3), 1),
    ("pairwise_distance.default", f(4, 3), f(4, 3)),
    ("dist.default", f(4, 3), f(4, 3)),
    ("nll_loss_forward.default", f(5, 3), _CLASSES, p(3), 1, 1),
    ("nll_loss_backward.default", f(), f(5, 3), _CLASSES, p(3), 1, 1, f().abs() + 1),
    ("nll_loss_backward.default", f(5), f(5, 3), _CLASSES, None, 0, -100, f()),
    ("nll_loss_backward.default", f(), f(3), i(3), None, 1, -100, f().abs() + 1),
]

_PRODUCTS: list[tuple[Any, ...]] = [
    ("addmv.default", f(3), f(3, 4), f(4)),
    ("addmv.default", f(3), f(3, 4), f(4), 0.5, -2.0),
    ("addr.default", f(3, 4), f(3), f(4)),
    ("baddbmm.default", f(2, 3, 5), f(2, 3, 4), f(2, 4, 5), 0.5, 2.0),
    ("baddbmm.default", f(5), f(2, 3, 4), f(2, 4, 5)),
    ("ger.default", f(3), f(4)),
    ("mv.default", f(3, 4), f(4)),
    ("conv1d.default", f(2, 3, 7), f(4, 3, 3), f(4)),
    ("conv3d.default", f(2, 2, 4, 4, 4), f(3, 2, 2, 2, 2), f(3)),
    ("conv_transpose1d.default", f(2, 3, 5), f(3, 4, 3), f(4), (2,)),
    ("conv_transpose2d.input", f(2, 3, 4, 4), f(3, 2, 2, 2), f(2)),
    ("conv_transpose3d.input", f(2, 2, 3, 3, 3), f(2, 2, 2, 2, 2), f(2)),
    ("group_norm.default", f(2, 4, 3), 2, f(4), f(4)),
    ("layer_norm.default", f(2, 4, 3), (3,), f(3), f(3)),
]

_ELEMENTS: list[tuple[Any, ...]] = [
    *(
        (f"{name}.default", f(3, 4))
        for name in (
            "celu", "frac", "hardshrink", "log_sigmoid", "relu6", "selu", "softplus", "softshrink",
            "std_mean", "trace", "tril", "triu", "var_mean",
        )
    ),
    *((f"{name}.{kind}", f(3, 4), bound) for name in ("clamp_max", "clamp_min")
      for kind, bound in (("default", 0.2), ("Tensor", f(4)), ("Tensor", d()))),
    ("add.Tensor", f(3), torch.tensor(2.0, dtype=torch.float64)),
    ("add.Tensor", torch.tensor(1.5), torch.tensor(2.0, dtype=torch.float64)),
    ("mul.Tensor", i(9, 3), torch.tensor(0.5)),
    ("gt.Tensor", f(3).half(), torch.tensor(0.1)),
    ("glu.default", f(3, 4), -1),
    ("masked_fill.Scalar", f(3, 4), b(4), 0.5),
    ("masked_fill.Tensor", f(3, 4), b(4), d()),
    ("prelu.default", f(2, 3, 4), f(3)),
    ("threshold.default", f(3, 4), 0.1, 2.0),
    ("roll.default", f(3, 4), (1,), (1,)),
    ("roll.default", f(3, 4), (2,), ()),
    ("rot90.default", f(3, 4), 1, (0, 1)),
    ("diag.default", f(3), 1),
    ("diag.default", f(3, 3)),
    ("diag_embed.default", f(2, 3)),
    ("expand_as.default", f(1, 4), f(3, 4)),
    ("reshape_as.default", f(2, 6), f(3, 4)),
    ("view_as.default", f(2, 6), f(3, 4)),
    ("narrow.default", f(3, 4), -1, 1, 2),
    ("unfold.default", f(3, 6), -1, 2, 2),
    ("logsumexp.default", f(3, 4), (0, 1)),
    ("adaptive_avg_pool2d.default", f(2, 3, 5, 5), (2, 2)),
    ("adaptive_avg_pool3d.default", f(2, 3, 4, 4, 4), (2, 2, 2)),
    ("max_pool1d.default", f(2, 3, 6), (2,)),
    ("max_pool3d.default", f(2, 3, 4, 4, 4), (2, 2, 2)),
    ("index_add.default", f(4, 3), 0, i(4, 2), f(2, 3)),
    ("index_copy.default", f(4, 3), 0, torch.tensor([2, 0]), f(2, 3)),
    ("index_fill.int_Scalar", f(4, 3), 0, i(4, 2), 0.5),
    ("take.default", f(4, 3), i(12, 5)),
    ("index.Tensor", f(3, 4, 5), (None, i(4, 2), i(5, 2))),
    ("index.Tensor", f(3, 4, 5), (i(3, 2), None, i(5, 2))),
    ("index.Tensor", f(3, 4, 5), (None, None, i(5, 2, 2))),
    ("index_put.default", f(3, 4, 5), (i(3, 2), None, i(5, 2)), f(2, 4), True),
    ("index_put.default", f(3, 4, 5), (None, i(4, 2)), f(5), True),
]  # fmt: skip


def _recurrences() -> list[tuple[Any, ...]]:
    made: list[tuple[Any, ...]] = []
    for kind in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        cases = [
            Case(kind),
            Case(kind, biases=False, reverse=True),
            Case(kind, lengths=True),
            Case(kind, lengths=True, reverse=True, dtype=torch.float32),
        ]
        if kind == "lstm":
            cases += [Case(kind, projected=3), Case(kind, projected=3, lengths=True, reverse=True)]
        for case in cases:
            made.append((f"fedplan.{kind}.default", *case.arguments()))
            made.append((f"fedplan.{kind}_backward.default", *case.backward_arguments()))
        only_last = Case(kind).backward_arguments((False, True, True))
        made.append((f"fedplan.{kind}_backward.default", *only_last))
    return made


FURTHER = [
    Sample(name if name.startswith("fedplan.") else f"aten.{name}", tuple(args))
    for name, *args in (*_LOSSES, *_PRODUCTS, *_ELEMENTS, *_recurrences())
]
