"""Rows for many clients side by side: what no operation of PyTorch computes of all of them at once.

Tensors have a first axis of clients here. No Plan can hold these operations. Those that look something up by
numbers hold the numbers against each client's own part: a wrong one fails, and never meets another client's.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from fedplan.plan.ops import alignments
from fedplan.plan.ops.op import Argument, Kind, Op, Trait, overload
from fedplan.plan.recurrence import operators, reference
from fedplan.plan.recurrence.schema import RECURRENCES


def _numbered_apart(numbers: torch.Tensor, count: int) -> torch.Tensor:
    """Numbers below `count` of each client, as numbers of all rows of all clients: (clients, …)."""
    if not numbers.is_meta and numbers.numel():
        _check(((numbers >= 0) & (numbers < count)).all(), f"a number outside of 0 to {count - 1}")
    first = torch.arange(0, len(numbers), device=numbers.device) * count
    return numbers + first.view(-1, *(1,) * (numbers.dim() - 1))


def _check(holds: torch.Tensor, otherwise: str) -> None:
    """Fails at once on a CPU; elsewhere when the device gets there, so that nobody waits for it."""
    if holds.device.type != "cpu":
        torch._assert_async(holds)
    elif not holds:
        raise IndexError(otherwise)


def _embedding(weight: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Rows of (clients, rows, n) by numbers (clients, …): (clients, …, n)."""
    return torch.embedding(weight.flatten(0, 1), _numbered_apart(indices, weight.shape[1]))


def _embedding_backward(
    gradient: torch.Tensor, indices: torch.Tensor, rows: int, padding: int
) -> torch.Tensor:
    """Gradients (clients, …, n) of rows by number: (clients, rows, n)."""
    count = len(indices)
    made: torch.Tensor = torch.ops.aten.embedding_dense_backward(
        gradient, _numbered_apart(indices, rows), count * rows, -1, False
    )
    made = made.view(count, rows, gradient.shape[-1])
    if 0 <= padding < rows:
        made[:, padding] = 0
    return made


_nll_loss: Any = torch.ops.aten.nll_loss_forward.default


def _likelihood(
    scores: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None, reduction: int, ignored: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores (clients, rows, classes) → the loss and the weight of all rows, (clients,) each.

    Rows may be missing. Without a reduction (0) the loss has a number for each row, and the weight is zero.
    """
    classes = scores.shape[-1]
    flat, rows = scores.reshape(-1, classes), target.reshape(-1)
    each = _nll_loss(flat, rows, weight, 0, ignored)[0].view_as(target)
    if reduction == 0:
        return each, each.new_zeros(len(target))
    if weight is None:
        total = target.ne(ignored).view(len(target), -1).sum(1, dtype=scores.dtype)
    else:
        ones = torch.full_like(flat, -1)  # whose loss is the weight alone
        weights = _nll_loss(ones, rows, weight, 0, ignored)[0]
        total = weights.view(len(target), -1).sum(1)
    loss = each.view(len(target), -1).sum(1)
    return loss / total if reduction == 1 else loss, total


def _alignments(
    scores: torch.Tensor,
    targets: torch.Tensor,
    lengths: torch.Tensor,
    target_lengths: torch.Tensor,
    blank: int = 0,
    zero_infinity: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores (clients, steps, rows, classes) → loss (clients, rows), alphas (clients, rows, steps, states).

    Targets are (clients, rows, most), or (clients, all): those of all rows one after the other.
    """
    if targets.dim() == 2 and not targets.is_meta:
        own = target_lengths.view(len(targets), -1).sum(1) == targets.shape[1]
        _check(own.all(), "a client's targets are more or fewer than their lengths say")
    flat, first, second = (value.flatten(0, 1) for value in (targets, lengths, target_lengths))
    losses, alphas = alignments.loss(_one_batch(scores), flat, first, second, blank, zero_infinity)
    return losses.view_as(lengths), alphas.view(*lengths.shape, *alphas.shape[1:])


def _alignments_backward(
    gradient: torch.Tensor,
    scores: torch.Tensor,
    targets: torch.Tensor,
    lengths: torch.Tensor,
    target_lengths: torch.Tensor,
    losses: torch.Tensor,
    alphas: torch.Tensor,
    blank: int,
    zero_infinity: bool = False,
) -> torch.Tensor:
    """The gradient of the scores."""
    rows = [value.flatten(0, 1) for value in (targets, lengths, target_lengths, losses, alphas)]
    made = alignments.loss_backward(gradient.flatten(), _one_batch(scores), *rows, blank, zero_infinity)
    return made.view(made.shape[0], *gradient.shape, made.shape[2]).permute(1, 0, 2, 3)


def _one_batch(scores: torch.Tensor) -> torch.Tensor:
    """(clients, steps, rows, classes) as (steps, clients · rows, classes)."""
    return scores.permute(1, 0, 2, 3).flatten(1, 2)


def _histograms(value: torch.Tensor, bins: int, low: float, high: float) -> torch.Tensor:
    """Of each client's part, one after the other: where the bins are depends on its numbers."""
    return torch.stack([torch.histc(part, bins, low, high) for part in value])


def _row(name: str, kind: Kind, implementation: Callable[..., Any], **types: str) -> Op:
    """A row whose arguments have these names and types."""
    return Op(
        f"clients.{name}.default",
        kind,
        Trait.CHECKS_VALUES,
        torchscript=None,
        implementation=implementation,
        signature=tuple(Argument(argument, type) for argument, type in types.items()),
    )


BY_VMAP = tuple(
    f"aten.{name}"
    for name in (
        "addr.default", "conv1d.default", "conv2d.default", "conv3d.default", "conv_transpose1d.default",
        "conv_transpose2d.input", "conv_transpose3d.input", "cosine_embedding_loss.default",
        "cosine_similarity.default", "cross_entropy_loss.default", "diag.default", "diag_embed.default",
        "dist.default", "group_norm.default", "index_add.default", "index_copy.default",
        "index_fill.int_Scalar", "layer_norm.default", "one_hot.default", "pairwise_distance.default",
        "prelu.default", "std_mean.default", "trace.default", "var_mean.default",
    )
)  # fmt: skip
"""Operations for which `torch.func.vmap` has a rule, and we have none: Plans that fedplan traces never hold
them, or hardly ever."""


_SELDOM_BY_VMAP = (
    "aten.nll_loss_forward.default",  # when each client weights the classes in its own way
    "aten.nll_loss_backward.default",
    *(str(operators.operator(name)) for name in RECURRENCES),  # with a projection
)


def vmap_name(op: str) -> str:
    """The name of an operation under `torch.func.vmap`."""
    return f"clients.vmap_{op.replace('.', '_')}.default"


def _by_vmap(name: str) -> Op:
    arguments = Op(name, Kind.POINTWISE).arguments
    short = name.split(".")[1]
    function = getattr(reference, short) if name.startswith("fedplan.") else overload(name)
    return Op(
        vmap_name(name),
        Kind.POINTWISE,
        Trait.CHECKS_VALUES,
        torchscript=None,
        implementation=_vmapped(function),
        signature=arguments,
    )


def _vmapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function for many clients: all tensors have their axis, alone or in lists."""

    def call(*args: Any, **options: Any) -> Any:
        leaves, form = pytree.tree_flatten((args, options))
        own = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]

        def one(*parts: torch.Tensor) -> Any:
            taken = iter(parts)
            filled = [next(taken) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
            positional, named = pytree.tree_unflatten(filled, form)
            return function(*positional, **named)

        return torch.func.vmap(one)(*own)

    return call


_NUMBERS = {
    "targets": "Tensor", "input_lengths": "Tensor", "target_lengths": "Tensor",
}  # fmt: skip

ROWS = (
    _row("embedding", Kind.INDEX, _embedding, weight="Tensor", indices="Tensor"),
    _row(
        "embedding_dense_backward",
        Kind.INDEX,
        _embedding_backward,
        grad_output="Tensor",
        indices="Tensor",
        num_weights="int",
        padding_idx="int",
    ),
    _row(
        "nll_loss_forward",
        Kind.REDUCTION,
        _likelihood,
        self="Tensor",
        target="Tensor",
        weight="Optional[Tensor]",
        reduction="int",
        ignore_index="int",
    ),
    _row(
        "ctc_loss",
        Kind.REDUCTION,
        _alignments,
        log_probs="Tensor",
        **_NUMBERS,
        blank="int",
        zero_infinity="bool",
    ),
    _row(
        "ctc_loss_backward",
        Kind.REDUCTION,
        _alignments_backward,
        grad="Tensor",
        log_probs="Tensor",
        **_NUMBERS,
        neg_log_likelihood="Tensor",
        log_alpha="Tensor",
        blank="int",
        zero_infinity="bool",
    ),
    _row("histc", Kind.REDUCTION, _histograms, self="Tensor", bins="int", min="number", max="number"),
    *map(_by_vmap, (*BY_VMAP, *_SELDOM_BY_VMAP)),
)
"""All of them."""
