"""What `torch.lstm`, `torch.gru` and `torch.rnn_*` compute, said with the recurrent operators.

These functions stand below `nn.LSTM`, `nn.GRU` and `nn.RNN`. One operator is one layer in one direction:
the directions of a layer are concatenated, and the layers follow each other, with dropout between them.
"""

import dataclasses
from collections.abc import Sequence

import torch
from torch.nn import functional as F

from fedplan.errors import TraceError
from fedplan.plan.recurrence.operators import operator


@dataclasses.dataclass(frozen=True, slots=True)
class Stack:
    """A stack of recurrent layers.

    Attributes:
        kind: name of the operation: lstm, gru, rnn_tanh or rnn_relu.
        weights: of each layer and direction w_ih, w_hh, then b_ih and b_hh where there are biases, then w_hr
            where outputs are projected, as `nn.RNNBase` has them.
        biases: whether there are biases.
        layers: number of layers.
        dropout: probability with which each output of a layer becomes zero on its way to the next, in train
            mode; the last layer's outputs stay.
        train: whether the module is in train mode.
        bidirectional: whether each layer goes in both directions.
    """

    kind: str
    weights: Sequence[torch.Tensor]
    biases: bool
    layers: int
    dropout: float
    train: bool
    bidirectional: bool

    def __call__(
        self, x: torch.Tensor, initial: Sequence[torch.Tensor], lengths: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
        """Runs the layers.

        Args:
            x: (T, B, I).
            initial: h0, and c0 of an LSTM, each (layers · directions, B, P or H).
            lengths: time steps of each sequence, (B,), int64; None when all have all.

        Returns:
            y (T, B, directions · P), and the last states in the shapes of the first ones.

        Raises:
            TraceError: the number of weights does not fit.
        """
        directions = 2 if self.bidirectional else 1
        cells = self._cells(self.layers * directions)
        run = operator(self.kind)
        last: list[Sequence[torch.Tensor]] = []  # of each cell, the states after its last step
        for layer in range(self.layers):
            outputs = []
            for direction in range(directions):
                place = layer * directions + direction
                states = [state.select(0, place) for state in initial]
                w_ih, w_hh, *rest = cells[place]
                y, *made = run(x, *states, w_ih, w_hh, *rest, lengths, direction == 1)
                outputs.append(y)
                last.append(made[: len(states)])
            x = torch.cat(outputs, 2) if len(outputs) > 1 else outputs[0]
            if self.dropout > 0 and self.train and layer < self.layers - 1:
                x = F.dropout(x, self.dropout, training=True)
        return x, *(torch.stack(states) for states in zip(*last, strict=True))

    def _cells(self, count: int) -> list[list[torch.Tensor | None]]:
        """For each layer and direction the weights, None for those that it does not have."""
        each, left = divmod(len(self.weights), count)
        plain = 4 if self.biases else 2
        projected = self.kind == "lstm" and each == plain + 1
        if left or not (each == plain or projected):
            raise TraceError(
                f"{len(self.weights)} weights do not fit {count} recurrent layers and directions"
            )
        cells = []
        for place in range(count):
            given: list[torch.Tensor | None] = list(self.weights[place * each : (place + 1) * each])
            biases = given[2:4] if self.biases else [None, None]
            projection = [given[-1] if projected else None] if self.kind == "lstm" else []
            cells.append([*given[:2], *biases, *projection])
        return cells
