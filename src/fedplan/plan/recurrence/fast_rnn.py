"""Plain RNNs for an executor: what `reference` computes, with few operations a step."""

import torch

from fedplan.plan.recurrence import reference
from fedplan.plan.recurrence.products import (
    adder,
    both,
    outer,
    outer_hidden,
    rows,
    rows_back,
    sums,
    tanh,
    together,
)
from fedplan.plan.recurrence.stepping import Padding, own

_tanh_backward = torch.ops.aten.tanh_backward.grad_input
_threshold_backward = torch.ops.aten.threshold_backward.grad_input


def rnn_tanh(
    x: torch.Tensor,
    h0: torch.Tensor,
    w_ih: torch.Tensor,
    w_hh: torch.Tensor,
    b_ih: torch.Tensor | None = None,
    b_hh: torch.Tensor | None = None,
    lengths: torch.Tensor | None = None,
    reverse: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """y, h_n."""
    return _forward(True, x, h0, w_ih, w_hh, both(b_ih, b_hh), Padding(x, lengths), reverse)


def rnn_relu(
    x: torch.Tensor,
    h0: torch.Tensor,
    w_ih: torch.Tensor,
    w_hh: torch.Tensor,
    b_ih: torch.Tensor | None = None,
    b_hh: torch.Tensor | None = None,
    lengths: torch.Tensor | None = None,
    reverse: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """y, h_n."""
    return _forward(False, x, h0, w_ih, w_hh, both(b_ih, b_hh), Padding(x, lengths), reverse)


def _forward(
    is_tanh: bool,
    x: torch.Tensor,
    h0: torch.Tensor,
    w_ih: torch.Tensor,
    w_hh: torch.Tensor,
    bias: torch.Tensor | None,
    padding: Padding,
    reverse: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    y = rows(padding.filled(x), w_ih, bias)
    ys, recurrent, add = y.unbind(0), w_hh.mT, adder(x)
    h = h0
    for t in reference.steps(x, reverse):
        out = add(ys[t], h, recurrent)
        if is_tanh:
            tanh(out, out)
        else:
            out.relu_()
        padding.carry_(out, h, t)
        h = out
    last = h.clone()
    return padding.fill_(y), last


def rnn_tanh_backward(
    grad_y: torch.Tensor | None,
    grad_h_n: torch.Tensor | None,
    x: torch.Tensor,
    h0: torch.Tensor,
    w_ih: torch.Tensor,
    w_hh: torch.Tensor,
    y: torch.Tensor,
    lengths: torch.Tensor | None = None,
    reverse: bool = False,
) -> tuple[torch.Tensor, ...]:
    """Gradients of x, h0, w_ih, w_hh and each bias."""
    return _backward(True, grad_y, grad_h_n, x, h0, w_ih, w_hh, y, Padding(x, lengths), reverse)


def rnn_relu_backward(
    grad_y: torch.Tensor | None,
    grad_h_n: torch.Tensor | None,
    x: torch.Tensor,
    h0: torch.Tensor,
    w_ih: torch.Tensor,
    w_hh: torch.Tensor,
    y: torch.Tensor,
    lengths: torch.Tensor | None = None,
    reverse: bool = False,
) -> tuple[torch.Tensor, ...]:
    """Gradients of x, h0, w_ih, w_hh and each bias."""
    return _backward(False, grad_y, grad_h_n, x, h0, w_ih, w_hh, y, Padding(x, lengths), reverse)


def _backward(
    is_tanh: bool,
    grad_y: torch.Tensor | None,
    grad_h_n: torch.Tensor | None,
    x: torch.Tensor,
    h0: torch.Tensor,
    w_ih: torch.Tensor,
    w_hh: torch.Tensor,
    y: torch.Tensor,
    padding: Padding,
    reverse: bool,
) -> tuple[torch.Tensor, ...]:
    d = torch.empty_like(y, memory_format=torch.contiguous_format)
    inner, ys = d.unbind(0), y.unbind(0)
    gradients = None if grad_y is None else padding.filled(grad_y).unbind(0)
    dh = own(grad_h_n, h0)
    for t in reference.steps(x, not reverse):
        if gradients is not None:
            dh.add_(gradients[t])
        if is_tanh:
            _tanh_backward(dh, ys[t], grad_input=inner[t])
        else:
            _threshold_backward(dh, ys[t], 0, grad_input=inner[t])
        padding.fill_(d[t : t + 1], t)
        padding.back_(dh, inner[t], w_hh, t)
    flat = together(d)
    return (
        rows_back(flat, w_ih, x),
        dh,
        outer(flat, together(padding.filled(x))),
        outer_hidden(flat, y, h0, padding.going, reverse),
        sums(flat),
    )
