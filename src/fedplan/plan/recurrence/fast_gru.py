"""GRU for an executor: what `reference` computes, with few operations a step."""

import torch

from fedplan.plan.recurrence import reference
from fedplan.plan.recurrence.products import adder, outer, outer_hidden, rows, rows_back, sums, tanh, together
from fedplan.plan.recurrence.stepping import Padding, own, states_before, stretches

_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input


def gru(
    x: torch.Tensor,
    h0: torch.Tensor,
    w_ih: torch.Tensor,
    w_hh: torch.Tensor,
    b_ih: torch.Tensor | None = None,
    b_hh: torch.Tensor | None = None,
    lengths: torch.Tensor | None = None,
    reverse: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """y, h_n, gates, candidate."""
    padding = Padding(x, lengths)
    units, add = h0.shape[-1], adder(x)
    bias = x.new_zeros(w_hh.shape[:-1]) if b_hh is None else b_hh
    gates = rows(padding.filled(x), w_ih, _of_gates(b_ih, bias, units))  # (T, B, 3H)
    y, candidate = x.new_empty(*x.shape[:-1], units), x.new_empty(*x.shape[:-1], units)
    r, z, n = (gate.unbind(0) for gate in gates.chunk(3, -1))
    r_and_z = gates[..., : 2 * units].unbind(0)
    ys, candidates = y.unbind(0), candidate.unbind(0)
    w_rz, w_n = w_hh[..., : 2 * units, :].mT, w_hh[..., 2 * units :, :].mT
    b_n = bias[..., 2 * units :].unsqueeze(-2).expand(h0.shape)
    plus = torch.addmm if x.dim() == 3 else torch.baddbmm
    h = h0
    for t in reference.steps(x, reverse):
        add(r_and_z[t], h, w_rz).sigmoid_()
        plus(b_n, h, w_n, out=candidates[t])
        tanh(n[t].addcmul_(r[t], candidates[t]), n[t])
        out = torch.lerp(n[t], h, z[t], out=ys[t])
        padding.carry_(out, h, t)
        h = out
    last = h.clone()
    return padding.fill_(y), last, padding.fill_(gates), candidate


def _of_gates(b_ih: torch.Tensor | None, b_hh: torch.Tensor, units: int) -> torch.Tensor:
    """What is added to the gates of all steps: without the hidden state's bias of n, which r multiplies."""
    bias = b_hh.clone()
    bias[..., 2 * units :] = 0
    return bias if b_ih is None else bias.add_(b_ih)


def gru_backward(
    grad_y: torch.Tensor | None,
    grad_h_n: torch.Tensor | None,
    x: torch.Tensor,
    h0: torch.Tensor,
    w_ih: torch.Tensor,
    w_hh: torch.Tensor,
    y: torch.Tensor,
    gates: torch.Tensor,
    candidate: torch.Tensor,
    lengths: torch.Tensor | None = None,
    reverse: bool = False,
) -> tuple[torch.Tensor, ...]:
    """Gradients of x, h0, w_ih, w_hh, b_ih, b_hh.

    A step's gradients are kept side by side: of the candidate, r, z, n. The first three go back to the hidden
    state, the last three to the inputs. Each is a factor times the gradient of the step's output.
    """
    padding = Padding(x, lengths)
    units, add = h0.shape[-1], adder(x)
    d = x.new_empty(*x.shape[:-1], 4 * units)  # first factors, then gradients
    parts = d.view(*x.shape[:-1], 4, units)
    to_hidden = d[..., : 3 * units].unbind(0)
    all_parts = parts.unbind(0)
    gradients = None if grad_y is None else padding.filled(grad_y).unbind(0)
    dh = own(grad_h_n, h0)
    dh_of_all = dh.unsqueeze(-2)
    whole = None if padding.going is None else reference.previous(y, h0, padding.going, reverse)
    weight = torch.cat((w_hh[..., 2 * units :, :], w_hh[..., : 2 * units, :]), -2)  # n, r, z
    for begin, end in stretches(len(d), d[0].numel(), reverse):
        r, z, n = gates[begin:end].chunk(3, -1)
        of_candidate, of_r, of_z, of_n = parts[begin:end].unbind(-2)
        before = states_before(y, h0, begin, end, reverse) if whole is None else whole[begin:end]
        _sigmoid_backward(before - n, z, grad_input=of_z)
        _tanh_backward(1 - z, n, grad_input=of_n)
        torch.mul(of_n, r, out=of_candidate)
        _sigmoid_backward(candidate[begin:end], r, grad_input=of_r).mul_(of_n)
        padding.fill_(d[begin:end], begin)
        keep = padding.filled(z, begin, fill=1).unbind(0)
        for t in range(begin, end) if reverse else range(end - 1, begin - 1, -1):
            if gradients is not None:
                dh.add_(gradients[t])
            all_parts[t].mul_(dh_of_all)
            add(dh.mul_(keep[t - begin]), to_hidden[t], weight)
    flat = together(d)
    to_inputs = flat[..., units:]
    of_weight = outer_hidden(flat[..., : 3 * units], y, h0, padding.going, reverse)
    of_bias = sums(flat)
    return (
        rows_back(to_inputs, w_ih, x),
        dh,
        outer(to_inputs, together(padding.filled(x))),
        of_weight.roll(-units, -2),  # r, z, n again
        of_bias[..., units:].clone(),
        of_bias[..., : 3 * units].roll(-units, -1),
    )
