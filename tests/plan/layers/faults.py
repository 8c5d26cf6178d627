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
        Step(plain("Linear"), "activation checkpoint"),
        DIFFERS,
        around("activation checkpoint"),
    ),
    Fault(
        "a recomputed batch norm counts while it is traced",
        Step(plain("BatchNorm1d"), "activation checkpoint"),
        "tracing changed 'layer.num_batches_tracked'",
        around("activation checkpoint"),
    ),
    Fault(
        "a penalty's weights are constants",
        Step(plain("Tanh"), "penalty over model.parameters()"),
        DIFFERS,
        around("penalty over model.parameters()"),
    ),
    Fault(
        "a proximal term's weights are constants",
        Step(plain("Tanh"), "FedProx term over model.parameters()"),
        DIFFERS,
        around("FedProx term over model.parameters()"),
    ),
    Fault(
        "an integer buffer is a constant",
        Step(plain("Tanh"), "integer buffer that forward writes"),
        DIFFERS,
        around("integer buffer that forward writes"),
    ),
    Fault(
        "a truth value that is kept is a constant",
        Step(plain("Tanh"), "bool buffer that forward writes"),
        DIFFERS,
        around("bool buffer that forward writes"),
    ),
    Fault(
        "a hook on a gradient is ignored",
        Step(plain("Tanh"), "hook on a parameter"),
        "differs by",
        around("hook on a parameter"),
    ),
    Fault(
        "a hook after a gradient is ignored",
        Step(plain("Tanh"), "hook after a parameter's gradient"),
        "differs by",
        around("hook after a parameter's gradient"),
    ),
    Fault(
        "decay trains a parameter that the loss does not use",
        Step(plain("Tanh"), "unused parameter", "SGD with momentum and decay"),
        "unused differs by",
        around("unused parameter"),
    ),
    Fault(
        "the weight norm of old keeps FakeTensors",
        Step(plain("Tanh"), "utils.weight_norm"),
        LEFT,
        around("utils.weight_norm"),
    ),
    Fault(
        "the spectral norm of old keeps FakeTensors",
        Step(plain("Tanh"), "utils.spectral_norm"),
        LEFT,
        around("utils.spectral_norm"),
    ),
    Fault(
        "an attribute keeps a FakeTensor",
        Step(plain("Tanh"), "tensor that forward keeps in an attribute"),
        LEFT,
        around("tensor that forward keeps in an attribute"),
    ),
    Fault(
        "a number of Python that forward counts is a constant",
        Step(plain("Tanh"), "number of Python that forward counts"),
        "differs by|tracing changed 'steps'",
        around("number of Python that forward counts"),
    ),
    Fault(
        "a parameter in a list is a constant",
        Step(plain("Tanh"), "parameter in a list"),
        DIFFERS,
        around("parameter in a list"),
    ),
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
        Step(plain("Tanh"), "reentrant activation checkpoint"),
        "(in which line|which operation or layer): .*use_reentrant=True",
    ),
)
