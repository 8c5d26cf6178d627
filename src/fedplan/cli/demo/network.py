"""The demo's model: two layers, and the step that trains them, written as plain functions of tensors."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedplan.cli.demo.digits import Samples
from fedplan.client import EpochEnd, PlanTrainer, SyftModel
from fedplan.plan import Plan, PlanInputSpec, PlanOutputSpec, trace
from fedplan.wire import State, WireTensor

_PIXELS, _HIDDEN, _DIGITS = 64, 256, 10

BATCH_SIZE = 16
EPOCHS = 3
"""Epochs that a worker trains in a cycle."""
LEARNING_RATE = 0.3

CLIENT_CONFIG = {"batch_size": BATCH_SIZE, "lr": LEARNING_RATE, "max_epochs": EPOCHS}


def initial_model(seed: int) -> State:
    """Random weights and zero biases."""
    random = np.random.default_rng(seed)

    def weights(outputs: int, inputs: int, gain: float) -> NDArray[Any]:
        limit = gain * np.sqrt(3 / inputs)
        return random.uniform(-limit, limit, (outputs, inputs)).astype(np.float32)

    arrays = (
        weights(_HIDDEN, _PIXELS, gain=np.sqrt(2)),
        np.zeros(_HIDDEN, np.float32),
        weights(_DIGITS, _HIDDEN, gain=1.0),
        np.zeros(_DIGITS, np.float32),
    )
    return State.of(WireTensor(array, "float32") for array in arrays)


def scores(x: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    """The network: (batch, 64) → (batch, 10)."""
    hidden = (x @ w1.T + b1).tanh()
    return hidden @ w2.T + b2


def training_step(x: Any, y: Any, lr: Any, *model: Any) -> tuple[Any, ...]:
    """One step of gradient descent: loss, accuracy and the new model.

    This is ordinary PyTorch. It runs once, here, to be traced; what workers get is the list of operations.
    """
    parameters = [parameter.detach().requires_grad_() for parameter in model]
    output = scores(x, *parameters)
    loss = -output.log_softmax(1).gather(1, y[:, None]).mean()
    loss.backward()
    accuracy = (output.argmax(1) == y).float().mean()
    return loss, accuracy, *(parameter - lr * parameter.grad for parameter in parameters)


def training_plan(model: State, samples: Samples) -> Plan:
    """`training_step` as a Plan that says what its inputs and outputs are."""
    arrays = [tensor.array for tensor in model.tensors]
    given, made = PlanInputSpec, PlanOutputSpec
    return trace(
        training_step,
        samples.images[:BATCH_SIZE],
        samples.digits[:BATCH_SIZE],
        np.array([LEARNING_RATE], np.float32),
        *arrays,
        name="training_plan",
        inputs=[
            given(given.TYPE_DATA),
            given(given.TYPE_TARGET),
            given(given.TYPE_CLIENT_CONFIG_PARAM, "lr"),
            *(given(given.TYPE_MODEL_PARAM, index=i) for i in range(len(arrays))),
        ],
        outputs=[
            made(made.TYPE_LOSS),
            made(made.TYPE_METRIC, "accuracy"),
            *(made(made.TYPE_MODEL_PARAM, index=i) for i in range(len(arrays))),
        ],
    )


class Test:
    """Measures models on samples that no worker has."""

    def __init__(self, model: State, samples: Samples) -> None:
        """A test for models of this one's shapes."""
        self._samples = samples
        arrays = [tensor.array for tensor in model.tensors]
        self._plan = trace(scores, samples.images, *arrays, pin_batch=True)

    def accuracy(self, model: SyftModel) -> float:
        """Share of the samples that the model reads rightly, in [0, 1]."""
        (output,) = self._plan(self._samples.images, *model.params)
        right = output.argmax(1).numpy() == self._samples.digits
        return float(right.mean())


def train_centrally(plan: Plan, model: State, samples: Samples, cycles: int, test: Test) -> Sequence[float]:
    """Trains the same model with the same Plan on all samples in one place.

    The budget is that of the workers together: as many epochs, of batches of the same size.

    Returns:
        Test accuracy after as many epochs as each cycle has.
    """
    accuracies: list[float] = []
    trainer = PlanTrainer(
        plan=plan,
        model=SyftModel.parse(model.serialize()),
        data=samples.images,
        target=samples.digits,
        epochs=EPOCHS * cycles,
        batch_size=BATCH_SIZE,
        client_config=CLIENT_CONFIG,
    )

    @trainer.on("epoch_end")
    def measure(event: EpochEnd) -> None:
        if (event.epoch + 1) % EPOCHS == 0:
            accuracies.append(test.accuracy(trainer.current_model))

    asyncio.run(trainer.start())
    return accuracies
