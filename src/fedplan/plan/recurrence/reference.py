"""The recurrent operations step by step, as they are defined.

These functions are what `torch.ops.fedplan.*` compute. They use core ATen operations only and change
nothing in place, so under a tracer they are also the unrolled form, for runtimes without the operation.
Arguments, results and letters of the shapes: `fedplan.plan.recurrence.schema`.
"""

from collections.abc import Mapping, Sequence

import torch

from fedplan.errors import TraceError

_Given = torch.Tensor | None


def lstm(
    x: torch.Tensor,
    h0: torch.Tensor,
    c0: torch.Tensor,
    w_ih: torch.Tensor,
    w_hh: torch.Tensor,
    b_ih: _Given = None,
    b_hh: _Given = None,
    w_hr: _Given = None,
    lengths: _Given = None,
    reverse: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """i, f, o = σ(W x + U h + b), g = tanh(W x + U h + b); c ← f · c + i · g; h ← o · tanh(c), projected.

    Returns:
        y, h_n, c_n, gates, cells.
    """
    going = running(x, lengths)
    inputs = _rows(_without_padding(x, going), w_ih, b_ih).unbind(0)  # T of (B, 4H)
    ys, gates, cells = {}, {}, {}
    h, c = h0, c0
    for t in steps(x, reverse):
        i, f, g, o = (inputs[t] + _linear(h, w_hh, b_hh)).chunk(4, 1)  # (B, H) each
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        after = f * c + i * g
        out = o * after.tanh()
        if w_hr is not None:
            out = _linear(out, w_hr, None)
        c = _choose(going, t, after, c)
        h = _choose(going, t, out, h)
        cells[t] = c
        gates[t] = _keep(going, t, torch.cat((i, f, g, o), 1))
        ys[t] = _keep(going, t, h)
    return _stacked(ys), h, c, _stacked(gates), _stacked(cells)


def lstm_backward(
    grad_y: _Given,
    grad_h_n: _Given,
    grad_c_n: _Given,
    x: torch.Tensor,
    h0: torch.Tensor,
    c0: torch.Tensor,
    w_ih: torch.Tensor,
    w_hh: torch.Tensor,
    y: torch.Tensor,
    gates: torch.Tensor,
    cells: torch.Tensor,
    w_hr: _Given = None,
    lengths: _Given = None,
    reverse: bool = False,
) -> tuple[torch.Tensor, ...]:
    """Gradients of x, h0, c0, w_ih, w_hh, each bias, and w_hr.

    They are summed over the time steps at the end: a step leaves the gradient of what its gates had before
    their sigmoid or tanh.
    """
    going = running(x, lengths)
    order = steps(x, reverse)
    before = dict(zip(order, (c0, *(cells[t] for t in order[:-1])), strict=True))
    dh, dc = _or_zeros(grad_h_n, h0), _or_zeros(grad_c_n, c0)
    inner, outputs, unprojected = {}, {}, {}
    for t in reversed(order):
        i, f, g, o = gates[t].chunk(4, 1)
        through = cells[t].tanh()
        if grad_y is not None:
            dh = dh + _keep(going, t, grad_y[t])
        d_out = dh
        if w_hr is not None:
            outputs[t], unprojected[t] = _keep(going, t, dh), o * through
            d_out = dh.mm(w_hr)
        d_cell = dc + d_out * o * (1 - through * through)
        d_gates = (
            d_cell * g * i * (1 - i),
            d_cell * before[t] * f * (1 - f),
            d_cell * i * (1 - g * g),
            d_out * through * o * (1 - o),
        )
        inner[t] = _keep(going, t, torch.cat(d_gates, 1))  # (B, 4H)
        dh = _choose(going, t, inner[t].mm(w_hh), dh)
        dc = _choose(going, t, d_cell * f, dc)
    d = _stacked(inner)
    of_projection = torch.full((0, c0.shape[1]), 0.0, dtype=x.dtype, device=x.device)
    if w_hr is not None:
        of_projection = _products(_stacked(outputs), _stacked(unprojected))
    w_grads = _weight_gradients(d, d, x, h0, y, going, reverse)
    return _rows_back(d, w_ih), dh, dc, *w_grads, d.sum((0, 1)), of_projection


def gru(
    x: torch.Tensor,
    h0: torch.Tensor,
    w_ih: torch.Tensor,
    w_hh: torch.Tensor,
    b_ih: _Given = None,
    b_hh: _Given = None,
    lengths: _Given = None,
    reverse: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """r, z = σ(W x + U h + b); n = tanh(W x + b + r · (U h + b)); h ← (1 − z) · n + z · h.

    Returns:
        y, h_n, gates (r, z, n), candidate (U h + b of n).
    """
    going = running(x, lengths)
    inputs = _rows(_without_padding(x, going), w_ih, b_ih).unbind(0)  # T of (B, 3H)
    ys, gates, candidates = {}, {}, {}
    h = h0
    for t in steps(x, reverse):
        x_r, x_z, x_n = inputs[t].chunk(3, 1)
        h_r, h_z, h_n = _linear(h, w_hh, b_hh).chunk(3, 1)
        r, z = (x_r + h_r).sigmoid(), (x_z + h_z).sigmoid()
        n = (x_n + r * h_n).tanh()
        h = _choose(going, t, (1 - z) * n + z * h, h)
        candidates[t] = h_n
        gates[t] = _keep(going, t, torch.cat((r, z, n), 1))
        ys[t] = _keep(going, t, h)
    return _stacked(ys), h, _stacked(gates), _stacked(candidates)


def gru_backward(
    grad_y: _Given,
    grad_h_n: _Given,
    x: torch.Tensor,
    h0: torch.Tensor,
    w_ih: torch.Tensor,
    w_hh: torch.Tensor,
    y: torch.Tensor,
    gates: torch.Tensor,
    candidate: torch.Tensor,
    lengths: _Given = None,
    reverse: bool = False,
) -> tuple[torch.Tensor, ...]:
    """Gradients of x, h0, w_ih, w_hh, b_ih, b_hh."""
    going = running(x, lengths)
    before = previous(y, h0, going, reverse)
    dh = _or_zeros(grad_h_n, h0)
    of_inputs, of_hidden = {}, {}
    for t in reversed(steps(x, reverse)):
        r, z, n = gates[t].chunk(3, 1)
        if grad_y is not None:
            dh = dh + _keep(going, t, grad_y[t])
        d_n = dh * (1 - z) * (1 - n * n)
        d_r = d_n * candidate[t] * r * (1 - r)
        d_z = dh * (before[t] - n) * z * (1 - z)
        of_inputs[t] = _keep(going, t, torch.cat((d_r, d_z, d_n), 1))  # (B, 3H)
        of_hidden[t] = _keep(going, t, torch.cat((d_r, d_z, d_n * r), 1))
        dh = _choose(going, t, dh * z + of_hidden[t].mm(w_hh), dh)
    d, d_hidden = _stacked(of_inputs), _stacked(of_hidden)
    w_grads = _weight_gradients(d, d_hidden, x, h0, y, going, reverse)
    return _rows_back(d, w_ih), dh, *w_grads, d.sum((0, 1)), d_hidden.sum((0, 1))


def rnn_tanh(
    x: torch.Tensor,
    h0: torch.Tensor,
    w_ih: torch.Tensor,
    w_hh: torch.Tensor,
    b_ih: _Given = None,
    b_hh: _Given = None,
    lengths: _Given = None,
    reverse: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """h ← tanh(W x + U h + b). Returns y, h_n."""
    return _rnn(True, x, h0, w_ih, w_hh, b_ih, b_hh, lengths, reverse)


def rnn_relu(
    x: torch.Tensor,
    h0: torch.Tensor,
    w_ih: torch.Tensor,
    w_hh: torch.Tensor,
    b_ih: _Given = None,
    b_hh: _Given = None,
    lengths: _Given = None,
    reverse: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """h ← max(0, W x + U h + b). Returns y, h_n."""
    return _rnn(False, x, h0, w_ih, w_hh, b_ih, b_hh, lengths, reverse)


def _rnn(
    tanh: bool,
    x: torch.Tensor,
    h0: torch.Tensor,
    w_ih: torch.Tensor,
    w_hh: torch.Tensor,
    b_ih: _Given,
    b_hh: _Given,
    lengths: _Given,
    reverse: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    going = running(x, lengths)
    inputs = _rows(_without_padding(x, going), w_ih, b_ih).unbind(0)  # T of (B, H)
    ys = {}
    h = h0
    for t in steps(x, reverse):
        after = inputs[t] + _linear(h, w_hh, b_hh)
        h = _choose(going, t, after.tanh() if tanh else after.relu(), h)
        ys[t] = _keep(going, t, h)
    return _stacked(ys), h


def rnn_tanh_backward(
    grad_y: _Given,
    grad_h_n: _Given,
    x: torch.Tensor,
    h0: torch.Tensor,
    w_ih: torch.Tensor,
    w_hh: torch.Tensor,
    y: torch.Tensor,
    lengths: _Given = None,
    reverse: bool = False,
) -> tuple[torch.Tensor, ...]:
    """Gradients of x, h0, w_ih, w_hh and each bias."""
    return _rnn_backward(True, grad_y, grad_h_n, x, h0, w_ih, w_hh, y, lengths, reverse)


def rnn_relu_backward(
    grad_y: _Given,
    grad_h_n: _Given,
    x: torch.Tensor,
    h0: torch.Tensor,
    w_ih: torch.Tensor,
    w_hh: torch.Tensor,
    y: torch.Tensor,
    lengths: _Given = None,
    reverse: bool = False,
) -> tuple[torch.Tensor, ...]:
    """Gradients of x, h0, w_ih, w_hh and each bias."""
    return _rnn_backward(False, grad_y, grad_h_n, x, h0, w_ih, w_hh, y, lengths, reverse)


def _rnn_backward(
    tanh: bool,
    grad_y: _Given,
    grad_h_n: _Given,
    x: torch.Tensor,
    h0: torch.Tensor,
    w_ih: torch.Tensor,
    w_hh: torch.Tensor,
    y: torch.Tensor,
    lengths: _Given,
    reverse: bool,
) -> tuple[torch.Tensor, ...]:
    going = running(x, lengths)
    dh = _or_zeros(grad_h_n, h0)
    inner = {}
    for t in reversed(steps(x, reverse)):
        if grad_y is not None:
            dh = dh + _keep(going, t, grad_y[t])
        slope = 1 - y[t] * y[t] if tanh else (y[t] > 0).to(y.dtype)
        inner[t] = _keep(going, t, dh * slope)  # (B, H)
        dh = _choose(going, t, inner[t].mm(w_hh), dh)
    d = _stacked(inner)
    w_grads = _weight_gradients(d, d, x, h0, y, going, reverse)
    return _rows_back(d, w_ih), dh, *w_grads, d.sum((0, 1))


# Time steps, and sequences that are shorter than the others


def steps(x: torch.Tensor, reverse: bool) -> Sequence[int]:
    """The time steps in the order in which they are computed.

    Raises:
        TraceError: a tracer has left their number open.
    """
    if isinstance(x.shape[0], torch.SymInt):
        raise TraceError(
            "a recurrence over any number of time steps cannot be unrolled: fix their number with "
            "pin_batch=True, or make the batch the first dimension of the inputs (batch_first=True)"
        )
    return range(x.shape[0])[:: -1 if reverse else 1]


def running(x: torch.Tensor, lengths: _Given) -> _Given:
    """(T, B, 1): whether a sequence has this step; None when all have all."""
    if lengths is None:
        return None
    return torch.arange(0, x.shape[0], 1, device=x.device).reshape(-1, 1, 1) < lengths.reshape(1, -1, 1)


def _choose(going: _Given, t: int, after: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    return after if going is None else torch.where(going[t], after, before)


def _keep(going: _Given, t: int, value: torch.Tensor) -> torch.Tensor:
    """The value of step t, zero for sequences that do not have it."""
    return value if going is None else torch.where(going[t], value, 0.0)


def _without_padding(x: torch.Tensor, going: _Given) -> torch.Tensor:
    """x with zeros where a sequence has no step: whatever stands there may be infinite or no number."""
    return x if going is None else torch.where(going, x, 0.0)


def previous(y: torch.Tensor, h0: torch.Tensor, going: _Given, reverse: bool) -> torch.Tensor:
    """(T, B, P): the hidden state before each step, in memory of its own.

    For a step that a sequence does not have it is anything finite.
    """
    if not reverse:
        return torch.cat((h0.unsqueeze(0), y[:-1]))
    before = torch.cat((y[1:], h0.unsqueeze(0)))
    if going is None:
        return before
    later = torch.cat((going[1:], torch.ones_like(going[:1])))  # the last step of T starts from h0 anyway
    return torch.where(later, before, h0)


# Products over all time steps at once


def _linear(x: torch.Tensor, weight: torch.Tensor, bias: _Given) -> torch.Tensor:
    transposed = weight.permute(1, 0)
    return x.mm(transposed) if bias is None else torch.addmm(bias, x, transposed)


def _rows(x: torch.Tensor, weight: torch.Tensor, bias: _Given) -> torch.Tensor:
    """(T, B, I) by (G, I): (T, B, G)."""
    return _linear(x.reshape(-1, x.shape[2]), weight, bias).reshape(*x.shape[:2], weight.shape[0])


def _rows_back(d: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(T, B, G) by (G, I): (T, B, I)."""
    return d.reshape(-1, d.shape[2]).mm(weight).reshape(*d.shape[:2], weight.shape[1])


def _products(d: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The sum over steps and sequences of the products of (T, B, G) and (T, B, I): (G, I)."""
    return d.reshape(-1, d.shape[2]).permute(1, 0).mm(x.reshape(-1, x.shape[2]))


def _weight_gradients(
    d: torch.Tensor,
    d_hidden: torch.Tensor,
    x: torch.Tensor,
    h0: torch.Tensor,
    y: torch.Tensor,
    going: _Given,
    reverse: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of w_ih and w_hh."""
    return (
        _products(d, _without_padding(x, going)),
        _products(d_hidden, previous(y, h0, going, reverse)),
    )


def _stacked(values: Mapping[int, torch.Tensor]) -> torch.Tensor:
    return torch.stack([values[t] for t in range(len(values))])


def _or_zeros(gradient: _Given, like: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(like) if gradient is None else gradient
