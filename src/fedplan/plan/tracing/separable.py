"""Whether a step can be computed sample by sample, as DP-SGD needs it: found out before it is traced."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedplan.errors import TraceError
from fedplan.plan.tracing.per_sample import Tensors

_ROWS = 8
"""Of the example, so many are computed one by one."""

_CLOSE = 1e-3
"""By how much of the loss the two ways may differ through rounding."""

Whole = Callable[[Tensors, Sequence[torch.Tensor]], tuple[torch.Tensor, list[torch.Tensor]]]
"""(all tensors of the module, tensors of a batch) → the loss and the metrics of the batch."""


def check_arguments(model: nn.Module, *, pin_batch: bool, clip_norm: object, clip_value: object) -> None:
    """Refuses what cannot stand beside `dp`.

    Raises:
        TraceError: says what to do instead.
    """
    if pin_batch:
        raise TraceError(
            "pin_batch=True does not go with dp: Poisson batches have any number of samples. Leave it out"
        )
    if clip_norm is not None or clip_value is not None:
        raise TraceError(
            "clip_norm and clip_value clip the gradient of the whole batch, and with dp each sample's is "
            "clipped: leave them out, and set max_grad_norm of the DpSgd"
        )
    mixing = [
        name or type(module).__name__
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and (module.training or not module.track_running_stats)
    ]
    if mixing:
        raise TraceError(
            f"the batch norm {', '.join(mixing)} uses the statistics of the whole batch, so no sample has a "
            "gradient of its own, which dp needs. Use nn.GroupNorm or nn.LayerNorm in its place; or put it "
            "into evaluation mode (`.eval()`), where it uses its running statistics as they are"
        )
    for name, parameter in model.named_parameters():
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            raise TraceError(
                f"the parameter '{name}' has a hook for its gradient, and with dp there is one gradient a "
                "sample: remove the hook; what is to become of the noisy gradient the optimizer can do"
            )


def check_batch(batch: Sequence[torch.Tensor]) -> None:
    """Refuses an example that is no batch of several samples.

    Raises:
        TraceError: says what is wrong with it.
    """
    shapes = ", ".join(str(tuple(part.shape)) for part in batch)
    if any(part.dim() == 0 or part.shape[0] != batch[0].shape[0] for part in batch):
        raise TraceError(
            f"the example's tensors have the shapes {shapes}: with dp each needs one row a sample, and all "
            "as many. A tensor that is the same for all samples can be a buffer of the model"
        )
    if batch[0].shape[0] < 2:
        raise TraceError(
            "the example is one sample. With dp it is found out on the example whether the loss is that of "
            "its samples: give two or more"
        )


def check_separable(
    model: nn.Module,
    whole: Whole,
    tensors: Tensors,
    batch: Sequence[torch.Tensor],
    data: int,
    names: Sequence[str],
) -> set[str]:
    """Checks on the example that the loss is the mean or the sum of the losses of its samples.

    Layers that draw, such as dropout, are off meanwhile. What is random without being such a layer cannot be
    compared, and is not.

    Args:
        model: its mode is set back.
        whole: computes the step's loss and metrics.
        tensors: of the module; they are written to by nobody else.
        batch: the example's tensors.
        data: how many of them are data, and no targets.
        names: of the metrics.

    Returns:
        The names of those tensors on which the loss depends.

    Raises:
        TraceError: it is not, a buffer is written to, or the loss cannot be computed on the example.
    """
    batch = [part[:_ROWS] for part in _told_apart(batch, data)]
    rows = batch[0].shape[0]
    with torch.random.fork_rng(devices=[]):
        reached = _reached(whole, tensors, batch)
        with _evaluating(model):
            loss, metrics = _numbers(whole, tensors, batch)
            again, _ = _numbers(whole, tensors, batch)
            if loss != again:  # it draws where no mode tells it not to
                return reached
            each = [_numbers(whole, tensors, [part[i : i + 1] for part in batch]) for i in range(rows)]
    summed = sum(one for one, _ in each)
    if not (_is_close(loss, summed / rows) or _is_close(loss, summed)):
        raise TraceError(
            f"the loss of {rows} samples of the example together is {loss:.6g}; the mean of their losses is "
            f"{summed / rows:.6g}, and the sum {summed:.6g}. dp needs a loss that is one or the other, such "
            "that each sample has a gradient of its own: no weights of classes in its mean, no comparison of "
            "samples with each other, no layer that mixes the rows of a batch"
        )
    for number, (name, value) in enumerate(zip(names, metrics, strict=True)):
        mean = sum(own[number] for _, own in each) / rows
        if not _is_close(value, mean):
            raise TraceError(
                f"the metric '{name}' of {rows} samples of the example together is {value:.6g}, and the mean "
                f"over them {mean:.6g}. With dp a batch has samples that do not count, so metrics must be "
                "means over samples: leave it out, or measure it with an evaluation Plan of your own"
            )
    return reached


def _reached(whole: Whole, tensors: Tensors, batch: Sequence[torch.Tensor]) -> set[str]:
    """The names of the tensors that the loss depends on; refuses one that the step writes to."""
    before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    with torch.enable_grad():
        loss, _ = _computed(whole, tensors, batch)
        wanted = {name: tensor for name, tensor in tensors.items() if tensor.requires_grad}
        found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
    for name, tensor in tensors.items():
        if not torch.equal(tensor.detach(), before[name]):
            raise TraceError(
                f"the step writes to '{name}', a value that all samples of a batch change together, and that "
                "would be told without noise. With dp nothing but the optimizer may change the model: use "
                "layers without running statistics (nn.GroupNorm, nn.LayerNorm), or `.eval()` of this one"
            )
    return {name for name, gradient in zip(wanted, found, strict=True) if gradient is not None}


def _numbers(whole: Whole, tensors: Tensors, batch: Sequence[torch.Tensor]) -> tuple[float, list[float]]:
    loss, metrics = _computed(whole, tensors, batch)
    return float(loss.detach()), [float(metric.detach()) for metric in metrics]


def _computed(
    whole: Whole, tensors: Tensors, batch: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    try:
        loss, metrics = whole(tensors, batch)
    except TraceError:
        raise
    except Exception as error:
        raise TraceError(
            f"the loss cannot be computed on the example: {' '.join(str(error).split())}. With dp it is "
            "computed there once, so the example needs values such as workers have"
        ) from error
    if not bool(torch.isfinite(loss)):
        raise TraceError(
            f"the loss of the example is {float(loss.detach())}. With dp it is computed there once, so the "
            "example needs values such as workers have"
        )
    return loss, metrics


def _told_apart(batch: Sequence[torch.Tensor], data: int) -> list[torch.Tensor]:
    """The example, with data that differs from row to row where all of its rows are alike."""
    if any(not torch.equal(part, part[:1].expand_as(part)) for part in batch[:data]):
        return list(batch)
    generator = torch.Generator().manual_seed(0)
    return [
        torch.rand(part.shape, generator=generator).to(part.dtype)
        if place < data and part.is_floating_point()
        else part
        for place, part in enumerate(batch)
    ]


def _is_close(whole: float, parts: float) -> bool:
    return abs(whole - parts) <= _CLOSE * max(abs(whole), abs(parts), _CLOSE)


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """The module in evaluation mode meanwhile."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode
