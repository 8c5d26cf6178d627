"""The functions that an executor calls in the place of the recurrent operations, by the names of these.

They and `reference` pass the same tests; results differ by rounding. No Plan can hold their names.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from fedplan.plan.recurrence import fast_gru, fast_lstm, fast_rnn, onednn
from fedplan.plan.recurrence.schema import RECURRENCES, Recurrence


@dataclasses.dataclass(frozen=True, slots=True)
class Kernel:
    """One function.

    Attributes:
        name: under which a graph for an executor has it, such as ``executor.fast_lstm.default``.
        stands_for: the operation whose arguments it takes.
        call: the function.
    """

    name: str
    stands_for: Recurrence
    call: Callable[..., Any]


def _kernels(way: str, *functions: Callable[..., Any]) -> dict[str, Kernel]:
    return {
        f.__name__: Kernel(f"executor.{way}_{f.__name__}.default", RECURRENCES[f.__name__], f)
        for f in functions
    }


FAST: Mapping[str, Kernel] = _kernels(
    "fast",
    fast_lstm.lstm,
    fast_lstm.lstm_backward,
    fast_gru.gru,
    fast_gru.gru_backward,
    fast_rnn.rnn_tanh,
    fast_rnn.rnn_tanh_backward,
    fast_rnn.rnn_relu,
    fast_rnn.rnn_relu_backward,
)
"""For all operations, by their short names."""

ONEDNN: Mapping[str, Kernel] = _kernels("onednn", onednn.lstm, onednn.lstm_backward)
"""For an LSTM with its gradient; these two only go together."""

KERNELS: Mapping[str, Kernel] = {made.name: made for made in (*FAST.values(), *ONEDNN.values())}
"""All of them, by the names that they have in a graph."""
