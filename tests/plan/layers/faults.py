"""Steps whose Plans were wrong once, or whose refusals said too little."""

import dataclasses

from tests.plan.layers.cases import Choice
from tests.plan.layers.layers import LAYERS
from tests.plan.layers.losses import LOSSES
from tests.plan.layers.steps import Step


def plain(name: str, **options: object) -> Choice:
    """A layer or loss with its plain options, but for these."""
    chosen = (LAYERS.get(name) or LOSSES[name]).menu.plain()
    return dataclasses.replace(chosen, options={**chosen.options, **options})


MENDED = {
    "dropout between the layers of a recurrent network is lost": Step(
        plain("LSTM", num_layers=2, dropout=0.5)
    ),
    "a recurrent network keeps FakeTensors": Step(plain("GRU")),
    "a recomputed layer's weights are constants": Step(plain("Linear"), "activation checkpoint"),
    "a recomputed recurrent network is another one": Step(
        plain("LSTM", bidirectional=True), "activation checkpoint"
    ),
    "a recomputed batch norm counts while it is traced": Step(plain("BatchNorm1d"), "activation checkpoint"),
    "a penalty's weights are constants": Step(plain("Tanh"), "penalty over model.parameters()"),
    "a proximal term's weights are constants": Step(plain("Tanh"), "FedProx term over model.parameters()"),
    "an integer buffer is a constant": Step(plain("Tanh"), "integer buffer that forward writes"),
    "a truth value that is kept is a constant": Step(plain("Tanh"), "bool buffer that forward writes"),
    "a hook on a gradient is ignored": Step(plain("Tanh"), "hook on a parameter"),
    "a hook after a gradient is ignored": Step(plain("Tanh"), "hook after a parameter's gradient"),
    "decay trains a parameter that the loss does not use": Step(
        plain("Tanh"), "unused parameter", "SGD with momentum and decay"
    ),
    "the weight norm of old keeps FakeTensors": Step(plain("Tanh"), "utils.weight_norm"),
    "the spectral norm of old keeps FakeTensors": Step(plain("Tanh"), "utils.spectral_norm"),
    "an attribute keeps a FakeTensor": Step(plain("Tanh"), "tensor that forward sets anew in an attribute"),
    "a number of Python that forward counts is a constant": Step(
        plain("Tanh"), "number of Python that forward counts"
    ),
    "a parameter in a list is a constant": Step(plain("Tanh"), "parameter in a list"),
    "a gradient scaled by counts is refused when the Plan runs, not when it is traced": Step(
        plain("Embedding", scale_grad_by_freq=True)
    ),
    "a value that is read": Step(plain("GaussianNLLLoss")),
    "a sparse gradient": Step(plain("Embedding", sparse=True)),
    "a value that is read for a sparse gradient": Step(plain("Embedding", sparse=True, max_norm=1.0)),
    "a kernel without shapes": Step(plain("FractionalMaxPool3d")),
    "an assertion inside of PyTorch": Step(plain("CrossMapLRN2d")),
    "PyTorch's decomposition of a loss is wrong": Step(plain("MultiLabelMarginLoss")),
    "a size that a layer fixes": Step(plain("FractionalMaxPool2d")),
    "a gradient that lies otherwise in memory": Step(plain("ReplicationPad2d")),
    "chance in place": Step(plain("RReLU", inplace=True)),
    "chance in place that is turned off": Step(plain("RReLU", inplace=True), "layer in eval mode"),
    "a loss's weights fix the number of rows": Step(
        plain("BCELoss", weight=LOSSES["BCELoss"].menu.options["weight"][1])
    ),
    "a loss's shares fix the number of rows": Step(plain("CrossEntropyLoss", target="shares")),
    "reentrant recomputation": Step(plain("Tanh"), "reentrant activation checkpoint"),
}
