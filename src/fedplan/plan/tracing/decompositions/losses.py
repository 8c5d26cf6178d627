"""Losses."""

import functools
import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import torch
from torch.nn import functional as F

aten = torch.ops.aten

_MEAN, _SUM = 1, 2


def _multilabel_margin_loss(
    value: torch.Tensor, target: torch.Tensor, reduction: int = _MEAN
) -> torch.Tensor:
    """The margins between each label and each class that is none, as far as they are below one.

    A row of targets ends at its first -1. PyTorch's own composition counts what comes behind it.
    """
    scores, labels = (given.reshape(-1, value.shape[-1]) for given in (value, target))  # (batch, classes)
    classes = scores.shape[1]
    before_end = (labels == -1).cumsum(1) == 0
    chosen = torch.where(before_end, labels, 0)
    places = torch.arange(classes)
    is_label = ((chosen.unsqueeze(-1) == places) & before_end.unsqueeze(-1)).any(1)
    margins = 1 - scores.gather(1, chosen).unsqueeze(-1) + scores.unsqueeze(1)  # (batch, label, class)
    counted = before_end.unsqueeze(-1) & ~is_label.unsqueeze(1)
    rows = torch.where(counted, margins.clamp(min=0), 0).sum((1, 2)) / classes
    if reduction == _MEAN:
        return rows.mean()
    return rows.sum() if reduction == _SUM else rows.reshape(value.shape[:-1])


def _ctc_loss(
    scores: torch.Tensor,
    targets: torch.Tensor,
    input_lengths: torch.Tensor | list[int],
    target_lengths: torch.Tensor | list[int],
    blank: int = 0,
    reduction: int = _MEAN,
    zero_infinity: bool = False,
) -> torch.Tensor:
    """As PyTorch computes it, with lengths as tensors, so that any number of rows will do."""
    lengths = [torch.as_tensor(given, dtype=torch.int64) for given in (input_lengths, target_lengths)]
    single = scores.dim() == 2
    if single:
        scores, lengths = scores.unsqueeze(1), [length.reshape(1) for length in lengths]
    loss: torch.Tensor = aten._ctc_loss(scores, targets, *lengths, blank, zero_infinity)[0]
    if zero_infinity:
        loss = torch.where(loss == torch.inf, 0.0, loss)
    if reduction == _MEAN:
        return (loss / lengths[1].clamp(min=1).to(loss.dtype)).mean()
    loss = loss.squeeze(0) if single else loss
    return loss.sum() if reduction == _SUM else loss


def _linear_cross_entropy(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    @functools.wraps(function)
    def run(*args: Any, **named: Any) -> torch.Tensor:
        """All at once: by chunks, it is an operation of its own."""
        named["options"] = None
        return function(*args, **named)

    return run


@functools.wraps(F.l1_loss)
def l1_loss(*args: Any, **named: Any) -> torch.Tensor:
    """`F.l1_loss` with its weights: PyTorch's function does not pass them to a `TorchFunctionMode`."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and named.get("weight") is None:
        if frame.f_code is F.l1_loss.__code__:
            named["weight"] = frame.f_locals["weight"]
        frame = frame.f_back
    return F.l1_loss(*args, **named)


def _binary_cross_entropy(
    value: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None, **options: Any
) -> torch.Tensor:
    """`F.binary_cross_entropy`: before PyTorch 2.13 its weights need sizes that are numbers."""
    reduction = options.get("reduction", "mean")
    is_old = any(options.get(name) is not None for name in ("size_average", "reduce"))
    if weight is None or is_old or reduction not in _REDUCTIONS:
        return F.binary_cross_entropy(value, target, weight, **options)
    each = F.binary_cross_entropy(value, target, reduction="none")
    return _REDUCTIONS[reduction](each * weight.expand(each.shape))


def _cross_entropy(
    scores: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None, **options: Any
) -> torch.Tensor:
    """`F.cross_entropy`: before PyTorch 2.13 targets that are shares need sizes that are numbers."""
    reduction, smoothing = options.get("reduction", "mean"), options.get("label_smoothing", 0.0)
    dimension = 0 if scores.dim() == 1 else 1
    is_plain = (
        all(options.get(name) is None for name in ("size_average", "reduce"))
        and reduction in _REDUCTIONS
        and options.get("ignore_index", -100) < 0
        and 0.0 <= smoothing <= 1.0
        and (weight is None or weight.shape == scores.shape[dimension : dimension + 1])
    )
    if not (is_plain and target.is_floating_point() and target.shape == scores.shape):
        return F.cross_entropy(scores, target, weight, **options)
    classes = scores.shape[dimension]
    if smoothing > 0.0:
        target = target * (1 - smoothing) + smoothing / classes
    each = scores.log_softmax(dimension) * target
    if weight is not None:
        each = each * weight.reshape([-1 if at == dimension else 1 for at in range(scores.dim())])
    if reduction == "none":
        return -each.sum(dimension)
    return -each.sum() if reduction == "sum" else -each.sum() / (each.numel() // classes)


_REDUCTIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda each: each,
    "mean": torch.mean,
    "sum": torch.sum,
}


FUNCTIONS: Mapping[Callable[..., Any], Callable[..., Any]] = {
    F.l1_loss: l1_loss,
    F.binary_cross_entropy: _binary_cross_entropy,
    F.cross_entropy: _cross_entropy,
    **{
        function: _linear_cross_entropy(function)
        for function in [getattr(F, "linear_cross_entropy", None)]  # torch has it since 2.13
        if function is not None
    },
}
"""Functions of PyTorch that choose an operation where a Plan has others, or lose an argument."""

BEFORE: Mapping[Any, Callable[..., Any]] = {
    aten.ctc_loss.IntList: _ctc_loss,
    aten.ctc_loss.Tensor: _ctc_loss,
    aten.multilabel_margin_loss.default: _multilabel_margin_loss,
}
"""For what autograd has not looked at."""
