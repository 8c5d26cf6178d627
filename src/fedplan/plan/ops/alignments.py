"""Rows for a loss over all alignments of two sequences (CTC).

PyTorch's kernels take targets for places in memory without a look, and leave parts of what they return as
memory was before. The functions here look at targets and lengths, and clear the rest.
"""

from typing import Any

import torch

from fedplan.plan.ops.guards import Witness
from fedplan.plan.ops.op import Kind, Trait, op, overload

_ARGUMENTS = "{log_probs}, {targets}, {input_lengths}, {target_lengths}"


def loss(
    scores: torch.Tensor,
    targets: torch.Tensor,
    lengths: torch.Tensor,
    target_lengths: torch.Tensor,
    blank: int = 0,
    zero_infinity: bool = False,
) -> Any:
    """Scores (steps, rows, classes), targets (rows, most) → loss (rows,), alphas (rows, steps, states)."""
    if scores.is_meta:
        return _shapes(scores, targets)
    _check(scores, targets, lengths, target_lengths)
    loss, alphas = overload("aten._ctc_loss.Tensor")(
        scores, targets, lengths, target_lengths, blank, zero_infinity
    )  # (rows,), (rows, steps, states)
    steps = torch.arange(alphas.shape[1], device=alphas.device) < lengths.unsqueeze(1)
    states = torch.arange(alphas.shape[2], device=alphas.device) < 2 * target_lengths.unsqueeze(1) + 1
    return loss, torch.where(steps.unsqueeze(2) & states.unsqueeze(1), alphas, 0.0)


def _check(
    scores: torch.Tensor, targets: torch.Tensor, lengths: torch.Tensor, target_lengths: torch.Tensor
) -> None:
    if scores.dim() != 3 or targets.dim() not in (1, 2):
        raise ValueError(f"scores of {scores.dim()} and targets of {targets.dim()} dimensions")
    steps, rows, classes = scores.shape
    for given, most in ((lengths, steps), (target_lengths, targets.shape[-1])):
        if given.shape != (rows,) or given.is_floating_point() or not _between(given, 0, most):
            raise ValueError(f"lengths {given.tolist()[:8]} for {rows} rows of at most {most}")
    total = int(target_lengths.sum())
    if targets.shape[0] != (total if targets.dim() == 1 else rows):
        raise ValueError(f"targets of the shape {tuple(targets.shape)} for {rows} rows with {total} in all")
    if targets.is_floating_point() or not _between(targets, 0, classes - 1):
        raise ValueError(f"targets outside of the {classes} classes")


def _between(numbers: torch.Tensor, low: int, high: int) -> bool:
    return not numbers.numel() or bool(((numbers >= low) & (numbers <= high)).all())


def _shapes(scores: torch.Tensor, targets: torch.Tensor, *_: Any, **__: Any) -> Any:
    """No more than this: how many states there are depends on the lengths."""
    steps, rows = scores.shape[:2]
    return scores.new_empty([rows]), scores.new_empty([rows, steps, 2 * targets.shape[-1] + 1])


def loss_backward(gradient: torch.Tensor, scores: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
    """Of the scores; the loss itself has looked at the targets and lengths."""
    made: torch.Tensor = (
        torch.empty_like(scores)
        if scores.is_meta
        else overload("aten._ctc_loss_backward.Tensor")(gradient, scores, *rest, **options)
    )
    return made


def _one_a_row(args: Any) -> str | None:
    grad, scores, losses = args[0], args[1], args[5]
    rows = scores.shape[1] if scores.dim() == 3 else -1
    if tuple(grad.shape) == tuple(losses.shape) == (rows,):
        return None
    return f"gradients of the shape {tuple(grad.shape)} for {rows} rows"


ROWS = (
    op(
        Kind.REDUCTION,
        "_ctc_loss.Tensor",
        Trait.CHECKS_VALUES,
        kernel=loss,
        shapes=_shapes,
        torchscript=f"@ctc_loss({_ARGUMENTS}, {{blank}}, {{zero_infinity}})",
    ),
    op(
        Kind.REDUCTION,
        "_ctc_loss_backward.Tensor",
        guard=_one_a_row,
        # (grad, scores, targets, input lengths, target lengths, loss, alphas, blank, zero_infinity)
        witness=Witness(
            "aten._ctc_loss.Tensor", same=((1, 0), (2, 1), (3, 2), (4, 3), (7, 4)), result=(6, 1)
        ),
        kernel=loss_backward,
        shapes=lambda gradient, scores, *_, **__: torch.empty_like(scores),
        torchscript=(
            f"@ctc_loss_backward({{grad}}, {_ARGUMENTS}, {{neg_log_likelihood}}, {{log_alpha}}, {{blank}}, "
            "{zero_infinity})"
        ),
    ),
)
"""All of them."""
