"""LSTM for an executor: what `reference` computes, with few operations a step and no memory taken in a step.

What does not depend on the step before is computed for many steps at once: the products with the inputs,
and the factors of the gradients.
"""

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
from fedplan.plan.recurrence.stepping import Padding, own, states_before, stretches

_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input


def lstm(
    x: torch.Tensor,
    h0: torch.Tensor,
    c0: torch.Tensor,
    w_ih: torch.Tensor,
    w_hh: torch.Tensor,
    b_ih: torch.Tensor | None = None,
    b_hh: torch.Tensor | None = None,
    w_hr: torch.Tensor | None = None,
    lengths: torch.Tensor | None = None,
    reverse: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """y, h_n, c_n, gates, cells. With a projection it is the reference that computes."""
    if w_hr is not None:
        return reference.lstm(x, h0, c0, w_ih, w_hh, b_ih, b_hh, w_hr, lengths, reverse)
    padding = Padding(x, lengths)
    gates = rows(padding.filled(x), w_ih, both(b_ih, b_hh))  # (T, B, 4H)
    units, add = c0.shape[-1], adder(x)
    y, cells = x.new_empty(*x.shape[:-1], units), x.new_empty(*x.shape[:-1], units)
    i, f, g, o = (gate.unbind(0) for gate in gates.chunk(4, -1))
    i_and_f = gates[..., : 2 * units].unbind(0)
    all_gates, ys, memory = gates.unbind(0), y.unbind(0), cells.unbind(0)
    through, recurrent = x.new_empty(c0.shape), w_hh.mT
    h, c = h0, c0
    for t in reference.steps(x, reverse):
        add(all_gates[t], h, recurrent)
        i_and_f[t].sigmoid_()
        o[t].sigmoid_()
        tanh(g[t], g[t])
        after = torch.mul(f[t], c, out=memory[t]).addcmul_(i[t], g[t])
        padding.carry_(after, c, t)
        out = torch.mul(o[t], tanh(after, through), out=ys[t])
        padding.carry_(out, h, t)
        h, c = out, after
    last = h.clone(), c.clone()
    return padding.fill_(y), *last, padding.fill_(gates), cells


def lstm_backward(
    grad_y: torch.Tensor | None,
    grad_h_n: torch.Tensor | None,
    grad_c_n: torch.Tensor | None,
    x: torch.Tensor,
    h0: torch.Tensor,
    c0: torch.Tensor,
    w_ih: torch.Tensor,
    w_hh: torch.Tensor,
    y: torch.Tensor,
    gates: torch.Tensor,
    cells: torch.Tensor,
    w_hr: torch.Tensor | None = None,
    lengths: torch.Tensor | None = None,
    reverse: bool = False,
) -> tuple[torch.Tensor, ...]:
    """Gradients of x, h0, c0, w_ih, w_hh, each bias, and w_hr."""
    if w_hr is not None:
        return reference.lstm_backward(
            grad_y, grad_h_n, grad_c_n, x, h0, c0, w_ih, w_hh, y, gates, cells, w_hr, lengths, reverse
        )
    padding = Padding(x, lengths)
    units = c0.shape[-1]
    d = x.new_empty(*x.shape[:-1], 4 * units)  # first factors, then gradients of the gates
    parts = d.view(*x.shape[:-1], 4, units)
    d_ifg, d_o, all_d = parts[..., :3, :].unbind(0), parts[..., 3, :].unbind(0), d.unbind(0)
    gradients = None if grad_y is None else padding.filled(grad_y).unbind(0)
    dh, dc = own(grad_h_n, h0), own(grad_c_n, c0)
    dc_of_three = dc.unsqueeze(-2)  # for three gates at once
    for begin, end in stretches(len(d), d[0].numel(), reverse):
        i, f, g, o = gates[begin:end].chunk(4, -1)
        through = tanh(cells[begin:end], torch.empty_like(f, memory_format=torch.contiguous_format))
        _sigmoid_backward(g, i, grad_input=parts[begin:end, ..., 0, :])
        _sigmoid_backward(
            states_before(cells, c0, begin, end, reverse), f, grad_input=parts[begin:end, ..., 1, :]
        )
        _tanh_backward(i, g, grad_input=parts[begin:end, ..., 2, :])
        _sigmoid_backward(through, o, grad_input=parts[begin:end, ..., 3, :])
        padding.fill_(d[begin:end], begin)
        slope = padding.fill_(_tanh_backward(o, through, grad_input=through), begin).unbind(0)
        forget = padding.filled(f, begin, fill=1).unbind(0)
        for t in range(begin, end) if reverse else range(end - 1, begin - 1, -1):
            if gradients is not None:
                dh.add_(gradients[t])
            dc.addcmul_(dh, slope[t - begin])
            d_o[t].mul_(dh)
            d_ifg[t].mul_(dc_of_three)
            dc.mul_(forget[t - begin])
            padding.back_(dh, all_d[t], w_hh, t)
    flat = together(d)
    return (
        rows_back(flat, w_ih, x),
        dh,
        dc,
        outer(flat, together(padding.filled(x))),
        outer_hidden(flat, y, h0, padding.going, reverse),
        sums(flat),
        x.new_empty(*w_hh.shape[:-2], 0, units),
    )
