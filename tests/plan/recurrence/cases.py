"""Arguments for the recurrent operations, and layers of PyTorch to hold them against."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from fedplan.plan.recurrence import reference
from fedplan.plan.recurrence.interception import RecurrentLayers
from fedplan.plan.recurrence.schema import RECURRENCES
from fedplan.plan.tracing.symbolic import Recording, record

KINDS = ("lstm", "gru", "rnn_tanh", "rnn_relu")

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}
"""Greatest difference of results, relative to the largest number where that is above one."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One call of a recurrent operation. With `lengths`, sequences end early, and x is NaN after that."""

    kind: str
    steps: int = 3
    rows: int = 2
    inputs: int = 4
    units: int = 5
    projected: int = 0
    biases: bool = True
    lengths: bool = False
    reverse: bool = False
    dtype: torch.dtype = torch.float64

    def arguments(self) -> list[Any]:
        """Random arguments, always the same."""
        random = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=random, dtype=torch.float64).to(self.dtype)

        rows, outputs = self.rows, self.projected or self.units
        gates = RECURRENCES[self.kind].gates * self.units
        states = [draw(rows, outputs), *([draw(rows, self.units)] if self.kind == "lstm" else [])]
        biases = [draw(gates), draw(gates)] if self.biases else [None, None]
        projection = [draw(outputs, self.units) / self.units**0.5 if self.projected else None]
        x = draw(self.steps, rows, self.inputs)
        lengths = torch.randint(0, self.steps + 1, (rows,), generator=random) if self.lengths else None
        if lengths is not None:
            x = x.masked_fill((torch.arange(self.steps).unsqueeze(1) >= lengths).unsqueeze(2), float("nan"))
        w_ih, w_hh = draw(gates, self.inputs) / self.inputs**0.5, draw(gates, outputs) / outputs**0.5
        weights = [w_ih, w_hh, *biases, *(projection if self.kind == "lstm" else [])]
        return [x, *states, *weights, lengths, self.reverse]

    def backward_arguments(self, with_gradients: tuple[bool, ...] = (True, True, True)) -> list[Any]:
        """Arguments of the gradient, with what the reference saves for it."""
        given = self.arguments()
        states = 2 if self.kind == "lstm" else 1
        made = getattr(reference, self.kind)(*given)
        gradients = [
            torch.linspace(-1, 1, value.numel(), dtype=self.dtype).reshape(value.shape) if wanted else None
            for value, wanted in zip(made[: 1 + states], with_gradients, strict=False)
        ]
        x, *rest = given
        biases = slice(states + 2, states + 4)
        del rest[biases]
        data, options = rest[: states + 2], rest[states + 2 :]
        return [*gradients, x, *data, made[0], *made[1 + states :], *options]

    def __str__(self) -> str:
        words = [self.kind, f"{self.steps}x{self.rows}x{self.inputs}-{self.units}", str(self.dtype)[6:]]
        flags = ("projected", "biases", "lengths", "reverse")
        return ", ".join([*words, *(flag for flag in flags if getattr(self, flag))])


def grid(*dtypes: torch.dtype) -> list[Case]:
    """Every kind with every option, one step and several, one row and several, few units and many."""
    sizes = ((1, 1, 4, 5), (1, 3, 4, 5), (6, 1, 4, 5), (6, 3, 70, 5), (5, 30, 3, 80))
    flags = (True, False)
    plain = itertools.product(KINDS, sizes, (0,), flags, flags, flags, dtypes)
    projected = itertools.product(("lstm",), sizes, (3,), (True,), flags, flags, dtypes)
    return [Case(kind, *size, *rest) for kind, size, *rest in (*plain, *projected)]


def assert_near(made: torch.Tensor, expected: torch.Tensor) -> None:
    """The same shape and dtype, and numbers that differ by rounding."""
    made, expected = made.detach(), expected.detach()
    assert made.shape == expected.shape
    assert made.dtype == expected.dtype
    assert made.isfinite().all()
    if expected.numel():
        scale = max(1.0, float(expected.abs().max()))
        assert float((made - expected).abs().max()) <= TOLERANCE[made.dtype] * scale


LAYERS: dict[str, Any] = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "rnn_tanh": nn.RNN,
    "rnn_relu": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options),
}


@dataclasses.dataclass(frozen=True)
class Layers:
    """A module of PyTorch with inputs for it."""

    kind: str
    layers: int = 1
    bidirectional: bool = False
    bias: bool = True
    batch_first: bool = False
    proj_size: int = 0
    steps: int = 4
    rows: int | None = 3
    states: bool = True
    dtype: torch.dtype = torch.float64

    def module(self) -> nn.RNNBase:
        torch.manual_seed(1)
        options: dict[str, Any] = {"proj_size": self.proj_size} if self.proj_size else {}
        made: nn.RNNBase = LAYERS[self.kind](
            3, 5, self.layers, bias=self.bias, batch_first=self.batch_first, bidirectional=self.bidirectional,
            dtype=self.dtype, **options,
        )  # fmt: skip
        return made

    def inputs(self, rows: int | None = None) -> list[torch.Tensor]:
        """x, and the first states where there are any; `rows` in the place of the case's own."""
        count = self.rows if rows is None else rows
        torch.manual_seed(2)
        batch = [] if count is None else [count]
        shape = [*batch, self.steps, 3] if self.batch_first else [self.steps, *batch, 3]
        cells = self.layers * (2 if self.bidirectional else 1)
        units = [self.proj_size or 5, *([5] if self.kind == "lstm" else [])]
        states = [torch.randn(cells, *batch, n, dtype=self.dtype) for n in units] if self.states else []
        return [torch.randn(shape, dtype=self.dtype), *states]

    def __str__(self) -> str:
        flags = ("bidirectional", "bias", "batch_first", "proj_size", "states")
        size = f"{self.layers} layers, {self.steps}x{self.rows}"
        return ", ".join([self.kind, size, *(flag for flag in flags if getattr(self, flag))])


def modules() -> list[Layers]:
    """Every kind with every option of its module."""
    flags = (False, True)
    options = itertools.product(KINDS, (1, 2), flags, flags, flags, flags)
    sizes = itertools.product(KINDS, ((1, 3), (4, 1), (1, 1), (4, None)))
    projections = itertools.product((1, 3), flags, flags)
    return [
        *(Layers(kind, *rest, states=states) for kind, *rest, states in options),
        *(Layers(kind, 2, bidirectional=True, steps=steps, rows=rows) for kind, (steps, rows) in sizes),
        *(Layers(kind, batch_first=True, rows=rows, states=False) for kind in KINDS for rows in (1, None)),
        *(Layers(kind, 2, bidirectional=True, dtype=torch.float32) for kind in KINDS),
        *(Layers("lstm", *rest, proj_size=2) for rest in projections),
    ]


def run(module: nn.RNNBase, x: torch.Tensor, *states: torch.Tensor) -> list[torch.Tensor]:
    """The module's results in one list: y, h_n, and c_n of an LSTM."""
    given: Any = states if len(states) > 1 else states[0] if states else None
    y, last = module(x, given)
    return [y, last] if isinstance(last, torch.Tensor) else [y, *last]


def gradients(
    results: list[torch.Tensor], module: nn.RNNBase, inputs: list[torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    """Of the sum of all results' squares, with respect to inputs and all parameters."""
    total = torch.stack([value.square().sum() for value in results]).sum()
    return torch.autograd.grad(total, [*inputs, *module.parameters()])


@dataclasses.dataclass(frozen=True)
class Recorded:
    """A function as the tracer records it."""

    recording: Recording

    def __call__(self, *inputs: torch.Tensor) -> list[torch.Tensor]:
        made: list[torch.Tensor] = self.recording.module(*inputs, *self.recording.constants)
        return made

    @property
    def operations(self) -> list[str]:
        """Names of its recurrent operations, in order."""
        names = [str(node.target) for node in self.recording.module.graph.nodes]
        return [name for name in names if name.startswith("fedplan.")]

    @property
    def length(self) -> int:
        return len(self.recording.module.graph.nodes)


def recorded(function: Callable[..., Sequence[torch.Tensor]], *inputs: torch.Tensor) -> Recorded:
    """Records a function for any number of rows, the first dimension of each input."""

    def intercepted(*given: torch.Tensor) -> Sequence[torch.Tensor]:
        with RecurrentLayers():
            return [value.detach() for value in function(*given)]

    return Recorded(record(intercepted, inputs, [True] * len(inputs), must_stay_free=True))
