"""What is known to be wrong. Each entry goes when its fault is mended: its test fails then, and says so."""

import dataclasses
import re
from collections.abc import Callable

from tests.plan.layers.cases import Choice
from tests.plan.layers.layers import LAYERS
from tests.plan.layers.losses import LOSSES
from tests.plan.layers.steps import Step

RECURRENT = ("RNN", "GRU", "LSTM")


@dataclasses.dataclass(frozen=True)
class Fault:
    """A fault that is known.

    Attributes:
        what: in words.
        example: a step that has it.
        words: what the fault is told with, as a regular expression.
        has: which steps have it.
    """

    what: str
    example: Step
    words: str
    has: Callable[[Step], bool] = lambda step: True

    def explains(self, step: Step, fault: str) -> bool:
        return self.has(step) and re.search(self.words, fault) is not None

    def __str__(self) -> str:
        return self.what


def plain(name: str, **options: object) -> Choice:
    """A layer or loss with its plain options, but for these."""
    chosen = (LAYERS.get(name) or LOSSES[name]).menu.plain()
    return dataclasses.replace(chosen, options={**chosen.options, **options})


def around(*names: str) -> Callable[[Step], bool]:
    return lambda step: step.surrounding in names


def of(*names: str) -> Callable[[Step], bool]:
    return lambda step: step.choice.of in names


DIFFERS = "differs by|is a constant of the Plan"
LEFT = "left a FakeTensor|cannot be copied"

FAULTS = (
    Fault(
        "dropout between the layers of a recurrent network is lost",
        Step(plain("LSTM", num_layers=2, dropout=0.5)),
        "differs by",
        lambda step: step.choice.of in RECURRENT and step.choice.options["dropout"] > 0,
    ),
    Fault(
        "a recurrent network keeps FakeTensors",
        Step(plain("GRU")),
        "FakeTensor in 'layer._flat_weights'",
        of(*RECURRENT),
    ),
    Fault(
        "a recomputed layer's weights are constants",
        Step(plain("Linear"), "recomputed"),
        DIFFERS,
        around("recomputed"),
    ),
    Fault(
        "a recomputed batch norm counts while it is traced",
        Step(plain("BatchNorm1d"), "recomputed"),
        "tracing changed 'layer.num_batches_tracked'",
        around("recomputed"),
    ),
    Fault(
        "a penalty's weights are constants", Step(plain("Tanh"), "penalised"), DIFFERS, around("penalised")
    ),
    Fault(
        "a proximal term's weights are constants",
        Step(plain("Tanh"), "proximal"),
        DIFFERS,
        around("proximal"),
    ),
    Fault("an integer buffer is a constant", Step(plain("Tanh"), "counting"), DIFFERS, around("counting")),
    Fault(
        "a truth value that is kept is a constant", Step(plain("Tanh"), "flagged"), DIFFERS, around("flagged")
    ),
    Fault(
        "a hook on a gradient is ignored",
        Step(plain("Tanh"), "hook on a gradient"),
        "differs by",
        around("hook on a gradient"),
    ),
    Fault(
        "a hook after a gradient is ignored",
        Step(plain("Tanh"), "hook after a gradient"),
        "differs by",
        around("hook after a gradient"),
    ),
    Fault(
        "decay trains a parameter that the loss does not use",
        Step(plain("Tanh"), "unused parameter", "SGD with momentum and decay"),
        "unused differs by",
        around("unused parameter"),
    ),
    Fault(
        "the weight norm of old keeps FakeTensors",
        Step(plain("Tanh"), "weight norm of old"),
        LEFT,
        around("weight norm of old"),
    ),
    Fault(
        "the spectral norm of old keeps FakeTensors",
        Step(plain("Tanh"), "spectral norm of old"),
        LEFT,
        around("spectral norm of old"),
    ),
    Fault("an attribute keeps a FakeTensor", Step(plain("Tanh"), "caching"), LEFT, around("caching")),
    Fault(
        "PyTorch's decomposition of this loss is wrong",
        Step(plain("MultiLabelMarginLoss")),
        "differs by",
        of("MultiLabelMarginLoss"),
    ),
    Fault(
        "a gradient scaled by counts is refused when the Plan runs, not when it is traced",
        Step(plain("Embedding", scale_grad_by_freq=True)),
        "the kernel that scales by frequency",
        of("Embedding"),
    ),
    # Refusals that do not say enough
    Fault(
        "a value that is read",
        Step(plain("GaussianNLLLoss")),
        "which operation or layer: a tensor's value is read into Python",
    ),
    Fault(
        "a size that something fixes",
        Step(plain("FractionalMaxPool2d")),
        "(in which line|which operation or layer): the function works for",
    ),
    Fault(
        "a sparse gradient",
        Step(plain("Embedding", sparse=True)),
        "the refusal does not say",
        lambda step: step.choice.options.get("sparse") is True,
    ),
    Fault(
        "a kernel without shapes",
        Step(plain("FractionalMaxPool3d")),
        "in which line: .*aten.fractional_max_pool3d_backward",
    ),
    Fault(
        "an assertion inside of PyTorch",
        Step(plain("CrossMapLRN2d")),
        "in which line: .*INTERNAL ASSERT FAILED",
    ),
    Fault(
        "reentrant recomputation",
        Step(plain("Tanh"), "recomputed, reentrant"),
        "(in which line|which operation or layer): .*use_reentrant=True",
    ),
)
