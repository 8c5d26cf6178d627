"""LSTM by oneDNN, as PyTorch's own `nn.LSTM` computes it on CPUs, for an executor.

oneDNN keeps a workspace of its own for the gradient, in the place of `gates`. So the two functions here only
go together, and only where nothing else reads `gates` and `cells` (`fedplan.plan.recurrence.substitution`).
"""

import torch

from fedplan.plan.ops.executor import has_onednn

_MODE = 2
"""PyTorch's number of an LSTM."""


def can_compute(x: torch.Tensor) -> bool:
    """Whether oneDNN has an LSTM for such inputs, given that they are on a CPU: x may be a meta tensor."""
    return x.dtype == torch.float32 and x.numel() > 0 and has_onednn()


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
    """y, h_n, c_n, the workspace, and a copy of c_n for the gradient.

    There is neither a projection nor lengths: `w_hr` and `lengths` are None.
    """
    biases = (x.new_zeros(len(w_hh)) if bias is None else bias for bias in (b_ih, b_hh))
    given = [tensor.detach() for tensor in (x.contiguous(), w_ih, w_hh, *biases, h0, c0)]
    with torch.enable_grad():  # without it oneDNN keeps no workspace, and its gradient fails
        y, h_n, c_n, workspace = torch.ops.aten.mkldnn_rnn_layer(
            *given, reverse, [], _MODE, h0.shape[1], 1, True, False, False, True
        )
    return y, h_n, c_n, workspace, c_n.clone()


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
    workspace: torch.Tensor,
    c_n: torch.Tensor,
    w_hr: torch.Tensor | None = None,
    lengths: torch.Tensor | None = None,
    reverse: bool = False,
) -> tuple[torch.Tensor, ...]:
    """Gradients of x, h0, c0, w_ih, w_hh, each bias, and w_hr, of what `lstm` computed just so."""
    biases = (x.new_zeros(len(w_hh)),) * 2  # no gradient depends on their values
    h_n = y[0] if reverse else y[-1]
    d_x, d_w_ih, d_w_hh, d_b, _, d_h0, d_c0 = torch.ops.aten.mkldnn_rnn_layer_backward(
        x.contiguous(), w_ih, w_hh, *biases, h0, c0, y, h_n, c_n,
        torch.zeros_like(y) if grad_y is None else grad_y.contiguous(), grad_h_n, grad_c_n,
        reverse, _MODE, h0.shape[1], 1, True, True, False, [], False, workspace,
    )  # fmt: skip
    return d_x, d_h0, d_c0, d_w_ih, d_w_hh, d_b, x.new_empty(0, h0.shape[1])
