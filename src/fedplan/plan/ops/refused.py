"""What to do in place of operations that no Plan may hold."""

from collections.abc import Mapping

_READS_VALUE = "aten._local_scalar_dense"
"""The operation that moves a tensor's value into Python."""

DEPENDS_ON_VALUES = (
    "Its result, or the shape of its result, depends on values read into Python (`.item()`, `float(t)`, "
    "`x[mask]`), which a Plan cannot do. Keep values in tensors: use `torch.where` or a product with a mask."
)

_CHANCE = (
    "Its random numbers are inputs in a Plan that fedplan traces; an op list that draws them itself cannot "
    "be repeated or checked."
)

INSTEAD: Mapping[str, str] = {
    **dict.fromkeys(
        ("aten.native_dropout", "aten.bernoulli", "aten.rand", "aten.randn", "aten.rand_like",
         "aten.randn_like", "aten.randint", "aten.randperm", "aten.multinomial", "aten.normal",
         "aten.uniform", "aten.exponential"),
        _CHANCE,
    ),
    **dict.fromkeys(
        ("aten.nonzero", "aten.masked_select", "aten._unique2", "aten.unique_dim"), DEPENDS_ON_VALUES
    ),
    _READS_VALUE: (
        "It reads a tensor's value into Python (`.item()`, `float(t)`, `if t > 0`), and a Plan has no "
        "Python. Keep it a tensor: `torch.where` in place of `if`."
    ),
    "aten.as_strided": "It reads memory under another layout. Use reshape, permute or slicing.",
    **dict.fromkeys(
        ("aten.linalg_eig", "aten.linalg_eigvals"),
        "Its results are complex. Of a symmetric matrix, torch.linalg.eigh and eigvalsh are real.",
    ),
    "aten.mkldnn_rnn_layer": "Use the layers nn.LSTM, nn.GRU or nn.RNN: in a Plan each is one operation.",
}  # fmt: skip
"""Advice, by the operator's name without its overload."""
