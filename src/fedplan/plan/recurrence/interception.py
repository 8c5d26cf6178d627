"""What becomes of PyTorch's recurrent functions while a function is traced."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from fedplan.errors import TraceError
from fedplan.plan.recurrence.layers import Stack
from fedplan.plan.recurrence.packed import Rows, Sizes, pack, pad

Function = Callable[..., Any]


class RecurrentLayers(TorchFunctionMode):
    """Records `nn.LSTM`, `nn.GRU` and `nn.RNN` as operations `fedplan.lstm`, `fedplan.gru`, `fedplan.rnn_*`.

    PyTorch has these layers as one function each, which its tracer takes apart step by step, or records as
    what this machine's library makes of them. `nn.LSTMCell`, `nn.GRUCell` and `nn.RNNCell` are one step each,
    and stay.

    Packed sequences (`nn.utils.rnn.pack_padded_sequence`) are recorded with their lengths as a tensor, which
    may be an input. What differs from PyTorch, which reads the lengths' values:

    * `pad_packed_sequence` gives as many steps as the packed tensor had, or `total_length`, not as many as
      the longest sequence has: the result may end in steps of padding for all. Leave padding out of losses
      and means with a mask, or pass `total_length` to PyTorch, too, and the results are the same.
    * `total_length` may not be less than the packed tensor's steps.
    * `enforce_sorted=True` does not check the order; the sequences may have any. It is the better choice
      here: with False the sequences are sorted first, for nothing.
    * `PackedSequence.data` and `.batch_sizes` have no contents, and refuse to be computed with.

    Dropout between layers is a call of `torch.nn.functional.dropout`, which outer modes see like any other.
    """

    def __enter__(self) -> "RecurrentLayers":
        """Also lets packed sequences of any batch size through the layers' check of the first states."""
        self._checks = _packed_batches()
        self._checks.__enter__()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *raised: Any) -> None:
        """Ends both."""
        try:
            super().__exit__(*raised)  # type: ignore[no-untyped-call]
        finally:
            self._checks.__exit__(*raised)

    def __torch_function__(
        self, func: Function, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        replacements = _UNDER_VMAP if torch._C._functorch.peek_interpreter_stack() else _REPLACEMENTS
        return replacements.get(func, func)(*args, **(kwargs or {}))


def _recurrent(kind: str) -> Function:
    """In place of PyTorch's function of a kind, with its two ways of being called."""

    def run(*args: Any, **options: Any) -> Any:
        packed = isinstance(args[0], Rows)
        given = [*args, *(options[name] for name in _ARGUMENTS[packed][len(args) :] if name in options)]
        if len(given) != len(_ARGUMENTS[packed]):
            raise TraceError(
                f"torch.{kind} is called with {len(given)} arguments: use nn.LSTM, nn.GRU or nn.RNN"
            )
        if packed:
            return _of_packed(kind, *given)
        return _of_tensor(kind, *given)

    return run


_SETTINGS = ("params", "has_biases", "num_layers", "dropout", "train", "bidirectional")

_ARGUMENTS: Mapping[bool, tuple[str, ...]] = {
    False: ("input", "hx", *_SETTINGS, "batch_first"),
    True: ("data", "batch_sizes", "hx", *_SETTINGS),
}
"""The arguments of PyTorch's functions; True: for packed sequences."""


def _of_tensor(
    kind: str, x: torch.Tensor, hx: Any, weights: Sequence[torch.Tensor], *settings: Any
) -> tuple[torch.Tensor, ...]:
    if x.dim() != 3:
        raise TraceError(f"torch.{kind}: the input has {x.dim()} dimensions; (T, B, I) is needed")
    *of_stack, batch_first = settings
    y, *last = Stack(kind, weights, *of_stack)(x.transpose(0, 1) if batch_first else x, _states(hx))
    return (y.transpose(0, 1) if batch_first else y), *last


def _of_packed(
    kind: str, rows: Rows, _: Sizes, hx: Any, weights: Sequence[torch.Tensor], *settings: Any
) -> tuple[torch.Tensor, ...]:
    if rows.padded.dim() != 3:
        raise TraceError(f"torch.{kind}: rows of {rows.padded.dim() - 2} dimensions are packed; 1 is needed")
    y, *last = Stack(kind, weights, *settings)(rows.padded, _states(hx), rows.lengths)
    return Rows(y, rows.lengths), *last


def _states(hx: Any) -> Sequence[torch.Tensor]:
    return [hx] if isinstance(hx, torch.Tensor) else list(hx)


def _pad(rows: Any, sizes: Any, batch_first: bool, padding_value: float, total_length: int) -> Any:
    if not isinstance(rows, Rows):
        raise TraceError("pad_packed_sequence is given rows that pack_padded_sequence did not make")
    return pad(rows, batch_first, padding_value, total_length)


_REPLACEMENTS: Mapping[Any, Function] = {
    torch.lstm: _recurrent("lstm"),
    torch.gru: _recurrent("gru"),
    torch.rnn_tanh: _recurrent("rnn_tanh"),
    torch.rnn_relu: _recurrent("rnn_relu"),
    torch._pack_padded_sequence: pack,
    torch._pad_packed_sequence: _pad,
}


def _step_by_step(function: Function) -> Function:
    """PyTorch's own function, which it takes apart under `torch.func`; it loses the dropout there."""

    def run(*args: Any, **options: Any) -> Any:
        given = [*args, *options.values()]
        layers, dropout, train = given[4:7]
        if layers > 1 and dropout and train:
            raise TraceError(
                "a recurrent network with dropout between its layers is used in torch.func.vmap or "
                "torch.func.grad, where PyTorch leaves the dropout out: use dropout=0, or a network for "
                "each layer with nn.Dropout between them"
            )
        return function(*args, **options)

    return run


_UNDER_VMAP: Mapping[Any, Function] = {
    function: _step_by_step(function) for function in (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)
}


@contextlib.contextmanager
def _packed_batches() -> Iterator[None]:
    """`nn.RNNBase` takes `int(batch_sizes[0])`, which would fix a batch size that is still open.

    The two methods that do so are exchanged for ones that do the same for all but our own packed sequences.
    """
    of_hidden, of_cell = nn.RNNBase.get_expected_hidden_size, nn.LSTM.get_expected_cell_size

    def hidden(self: nn.RNNBase, input: torch.Tensor, batch_sizes: Any) -> Any:
        layers, rows, units = of_hidden(self, input, _first_size(batch_sizes))
        return layers, batch_sizes.rows if isinstance(batch_sizes, Sizes) else rows, units

    def cell(self: nn.LSTM, input: torch.Tensor, batch_sizes: Any) -> Any:
        layers, rows, units = of_cell(self, input, _first_size(batch_sizes))
        return layers, batch_sizes.rows if isinstance(batch_sizes, Sizes) else rows, units

    methods: Any = (
        (nn.RNNBase, "get_expected_hidden_size", hidden),
        (nn.LSTM, "get_expected_cell_size", cell),
    )
    for owner, name, method in methods:
        setattr(owner, name, method)
    try:
        yield
    finally:
        nn.RNNBase.get_expected_hidden_size = of_hidden  # type: ignore[method-assign]
        nn.LSTM.get_expected_cell_size = of_cell  # type: ignore[method-assign]


def _first_size(batch_sizes: Any) -> Any:
    return (0,) if isinstance(batch_sizes, Sizes) else batch_sizes
