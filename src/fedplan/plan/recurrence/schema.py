"""What the recurrent operations take and return, and which arguments are refused.

Sizes have letters: T time steps, B sequences in the batch, I inputs, H hidden units, P outputs (H, unless
an LSTM projects them), G rows of the weights: 4 · H in an LSTM (gates in the order input, forget, cell,
output), 3 · H in a GRU (reset, update, new), H in a plain RNN. These are PyTorch's orders.

| name | shape | meaning |
|---|---|---|
| x | (T, B, I) | inputs, time first |
| h0, c0 | (B, P), (B, H) | hidden and cell state before the first step |
| w_ih, w_hh | (G, I), (G, P) | weights of the inputs and of the hidden state |
| b_ih, b_hh | (G) | biases, or None |
| w_hr | (P, H) | projection of the outputs, or None |
| lengths | (B), int64 | time steps of each sequence, or None: all T |
| reverse | bool | go from the last step to the first |
| y | (T, B, P) | the hidden state after each step |
| h_n, c_n | as h0, c0 | hidden and cell state after the last step |
| gates | (T, B, G) | the gates after their sigmoid or tanh |
| cells | (T, B, H) | the cell state after each step |
| candidate | (T, B, H) | of a GRU: W_hn · h + b_hn, before the reset gate |

A sequence that is shorter than T keeps its state after its last step (in reverse: has its first state up to
there). `y` and `gates` are zero where a sequence has no step, and what `x` holds there has no influence.
`cells` hold the state that is kept. Lengths below 0 count as 0, above T as T.

A gradient has the name of what it is the gradient of, with `grad_` in front. Without a projection `grad_w_hr`
has no rows. All but `lengths` have one dtype: float32 or float64.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch

_SHAPES: Mapping[str, str] = {
    "x": "TBI",
    "h0": "BP",
    "c0": "BH",
    "w_ih": "GI",
    "w_hh": "GP",
    "b": "G",
    "b_ih": "G",
    "b_hh": "G",
    "w_hr": "PH",
    "lengths": "B",
    "y": "TBP",
    "h_n": "BP",
    "c_n": "BH",
    "gates": "TBG",
    "cells": "TBH",
    "candidate": "TBH",
}
"""The shape of each argument and result, a letter for each dimension."""

_DTYPES = (torch.float32, torch.float64)


@dataclasses.dataclass(frozen=True, slots=True)
class Recurrence:
    """One recurrent operation.

    Attributes:
        name: such as ``lstm``.
        gates: G / H.
        arguments: declarations of its arguments, as PyTorch's schemas have them.
        results: names of its results; all are tensors.
    """

    name: str
    gates: int
    arguments: tuple[str, ...]
    results: tuple[str, ...]

    @property
    def schema(self) -> str:
        """The declaration of the operator."""
        made = ", ".join(f"Tensor {name}" for name in self.results)
        return f"{self.name}({', '.join(self.arguments)}) -> ({made})"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its arguments, in order."""
        return tuple(declared.split()[-1].partition("=")[0] for declared in self.arguments)

    @property
    def operator(self) -> str:
        """Its name in the op table."""
        return f"fedplan.{self.name}.default"

    @property
    def is_backward(self) -> bool:
        """Whether it is the gradient of another one."""
        return self.name.endswith("_backward")


def _pair(name: str, gates: int, states: str, projection: str, saved: str, biases: str) -> list[Recurrence]:
    """An operation and its gradient, from names that are separated by spaces."""
    given, projected, kept = states.split(), projection.split(), saved.split()
    ends = [f"{state[0]}_n" for state in given]
    data = [f"Tensor {n}" for n in ("x", *given, "w_ih", "w_hh")]
    rest = [*(f"Tensor? {n}=None" for n in (*projected, "lengths")), "bool reverse=False"]
    forward = [*data, "Tensor? b_ih=None", "Tensor? b_hh=None", *rest]
    backward = [
        *(f"Tensor? grad_{n}" for n in ("y", *ends)),
        *data,
        *(f"Tensor {n}" for n in ("y", *kept)),
        *rest,
    ]
    gradients = ["x", *given, "w_ih", "w_hh", *biases.split(), *projected]
    return [
        Recurrence(name, gates, tuple(forward), ("y", *ends, *kept)),
        Recurrence(f"{name}_backward", gates, tuple(backward), tuple(f"grad_{n}" for n in gradients)),
    ]


RECURRENCES: Mapping[str, Recurrence] = {
    made.name: made
    for made in (
        *_pair("lstm", 4, "h0 c0", "w_hr", "gates cells", "b"),
        *_pair("gru", 3, "h0", "", "gates candidate", "b_ih b_hh"),
        *_pair("rnn_tanh", 1, "h0", "", "", "b"),
        *_pair("rnn_relu", 1, "h0", "", "", "b"),
    )
}
"""Every recurrent operation, by its name. The two biases of an LSTM or RNN have one gradient, `grad_b`."""


def named(recurrence: Recurrence, args: Sequence[Any]) -> dict[str, Any]:
    """The arguments by name, None for those that were left out."""
    return {**dict.fromkeys(recurrence.names), **dict(zip(recurrence.names, args, strict=False))}


def is_sequence(name: str) -> bool:
    """Whether the argument or result of this name has a value for each time step."""
    return _SHAPES.get(name.removeprefix("grad_"), "").startswith("T")


def refusal(recurrence: Recurrence, args: Sequence[Any]) -> str | None:
    """Why an operation may not be called with these arguments; None when it may.

    Args:
        recurrence: the operation.
        args: its arguments in order; tensors may be on the meta device.
    """
    given = named(recurrence, args)
    tensors = {name: value for name, value in given.items() if isinstance(value, torch.Tensor)}
    for name, declared in zip(recurrence.names, recurrence.arguments, strict=True):
        if declared.startswith("Tensor ") and name not in tensors:
            return f"{name} is no tensor"
    if tensors["x"].dim() != 3 or tensors["h0"].dim() != 2:
        return f"x {_shape(tensors['x'])} and h0 {_shape(tensors['h0'])} are not (T, B, I) and (B, P)"
    sizes = _sizes(recurrence, tensors)
    if any(sizes[letter] < 1 for letter in "TIHP"):
        return f"x {_shape(tensors['x'])} and h0 {_shape(tensors['h0'])} have no steps or no elements"
    if "w_hr" not in tensors and sizes["P"] != sizes["H"]:
        return f"{sizes['P']} outputs of {sizes['H']} hidden units need a projection, w_hr"
    for name, tensor in tensors.items():
        expected = _extents(name, sizes)
        if tuple(tensor.shape) != expected:
            return f"{name} has the shape {_shape(tensor)} where {expected} is needed"
    return _unlike(tensors)


def _unlike(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """Why these tensors cannot be computed with together."""
    x = tensors["x"]
    if x.dtype not in _DTYPES:
        return f"x has the dtype {x.dtype}; a recurrence computes in float32 or float64"
    for name, tensor in tensors.items():
        expected = torch.int64 if name == "lengths" else x.dtype
        if tensor.dtype != expected or tensor.device != x.device:
            return f"{name} is {tensor.dtype} on {tensor.device} where {expected} on {x.device} is needed"
    return None


def _shape(tensor: torch.Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


def _sizes(recurrence: Recurrence, tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """The extent that each letter stands for."""
    steps, rows, inputs = tensors["x"].shape
    outputs = tensors["h0"].shape[1]
    hidden = tensors["c0"].shape[-1] if "c0" in tensors and tensors["c0"].dim() else outputs
    return {
        "T": steps, "B": rows, "I": inputs, "P": outputs, "H": hidden, "G": recurrence.gates * hidden
    }  # fmt: skip


def _extents(name: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(sizes[letter] for letter in _SHAPES[name.removeprefix("grad_")])


def results(recurrence: Recurrence, args: Sequence[Any]) -> tuple[torch.Tensor, ...]:
    """Empty tensors of the shapes and dtypes of the results, on the device of `x`.

    Args:
        recurrence: the operation.
        args: arguments that are not refused.
    """
    tensors = {k: v for k, v in named(recurrence, args).items() if isinstance(v, torch.Tensor)}
    sizes = _sizes(recurrence, tensors)
    projection = _extents("w_hr", sizes) if "w_hr" in tensors else (0, sizes["H"])
    shapes = [projection if n == "grad_w_hr" else _extents(n, sizes) for n in recurrence.results]
    return tuple(tensors["x"].new_empty(shape) for shape in shapes)


_GATE = 20
"""Additions of a matrix product that take as long as one gate of one step."""

_STEP = 10**6
"""Additions that take as long as the calls of PyTorch's functions for one step."""

_STEP_BYTES = 6 * 1024
"""Memory of the Python objects that stand for the tensors of one step."""


def work(recurrence: Recurrence, args: Sequence[Any]) -> int:
    """Additions and multiplications, roughly.

    Args:
        recurrence: the operation.
        args: arguments that are not refused; tensors may be on the meta device.
    """
    size = _sizes(
        recurrence, {k: v for k, v in named(recurrence, args).items() if isinstance(v, torch.Tensor)}
    )
    projection = size["P"] * size["H"] if size["P"] != size["H"] else 0
    products = size["G"] * (size["I"] + size["P"]) + projection
    each = 2 * products * (2 if recurrence.is_backward else 1) + _GATE * (size["G"] + 2 * size["H"])
    return size["T"] * (size["B"] * each + _STEP)


def scratch(recurrence: Recurrence, args: Sequence[Any]) -> int:
    """Bytes that a kernel may take for itself while it runs.

    The reference holds each value of each step twice, in a list and stacked; oneDNN's workspace holds 16
    numbers for each hidden unit.

    Args:
        recurrence: the operation.
        args: arguments that are not refused; tensors may be on the meta device.
    """
    tensors = {k: v for k, v in named(recurrence, args).items() if isinstance(v, torch.Tensor)}
    size = _sizes(recurrence, tensors)
    step = 3 * size["G"] + 4 * size["H"] + 2 * size["P"] + 2 * size["I"]
    weights = size["G"] * (size["I"] + size["P"]) + size["P"] * size["H"]
    numbers = size["T"] * size["B"] * step + 2 * weights
    return numbers * tensors["x"].element_size() + size["T"] * _STEP_BYTES
