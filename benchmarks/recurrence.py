"""LSTM, GRU and RNN against eager PyTorch: one layer, and the step of LEAF's Shakespeare model.

A layer has 256 inputs and 256 units over 80 steps; both sides compute it and its gradients. The model is an
embedding of 80 characters, two such layers, and the next character's scores. One thread.
"""

import copy
import functools
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.line import Line, Options
from benchmarks.rows import at_most
from benchmarks.timing import clock_of, interleave
from fedplan import Plan, model_parameters, training_plan
from fedplan.plan import RepeatedPlan
from fedplan.plan.ops.executor import has_onednn
from fedplan.plan.recurrence.kernels import FAST, ONEDNN

STEPS, UNITS, CHARACTERS = 80, 256, 80
BATCHES = (1, 10, 64)
KINDS: Mapping[str, Callable[..., nn.RNNBase]] = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "rnn_tanh": nn.RNN,
    "rnn_relu": functools.partial(nn.RNN, nonlinearity="relu"),
}
RATE = 0.1


class Shakespeare(nn.Module):
    """LEAF's model of the next character."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.embed = nn.Embedding(CHARACTERS, 8)
        self.recurrent = KINDS[kind](8, UNITS, 2, batch_first=True)
        self.out = nn.Linear(UNITS, CHARACTERS)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        """Scores (batch, characters) of the character after a text (batch, steps)."""
        y, _ = self.recurrent(self.embed(text))
        scores: torch.Tensor = self.out(y[:, -1])
        return scores


def run(options: Options) -> list[Line]:
    """Layers, then whole steps."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        batches = options.cases(BATCHES)
        layers = [_layer(kind, rows, options) for kind in KINDS for rows in batches]
        kinds = options.cases(("lstm", "gru", "rnn_tanh"))
        steps = [line for kind in kinds for line in _steps(kind, batches, options)]
    finally:
        torch.set_num_threads(threads)
    return [*layers, *steps]


def _layer(kind: str, rows: int, options: Options) -> Line:
    """Forward and gradients of one layer."""
    torch.manual_seed(0)
    layer = KINDS[kind](UNITS, UNITS).to(options.device)
    x = torch.randn(STEPS, rows, UNITS, device=options.device, requires_grad=True)
    grad_y = torch.randn(STEPS, rows, UNITS, device=options.device)
    states = [torch.zeros(rows, UNITS, device=options.device)] * (2 if kind == "lstm" else 1)
    weights = [parameter.detach() for parameter in layer.parameters()]
    by_onednn = kind == "lstm" and has_onednn() and options.device == "cpu"
    functions = ONEDNN if by_onednn else FAST
    forward, backward = functions[kind].call, functions[f"{kind}_backward"].call

    def ours() -> None:
        with torch.inference_mode():
            y, *made = forward(x, *states, *weights)
            backward(grad_y, *(None for _ in states), x, *states, *weights[:2], y, *made[len(states) :])

    def theirs() -> None:
        layer.zero_grad()
        x.grad = None
        layer(x)[0].backward(grad_y)

    what = f"recurrence: {kind}, batch {rows}{' (oneDNN)' if by_onednn else ''}"
    measured = interleave(ours, theirs, rounds=options.rounds(30), clock=clock_of(options.device))
    return measured.line(what, 1.1)


def _steps(kind: str, batches: list[int], options: Options) -> list[Line]:
    """Tracing the model's training step, and the step."""
    torch.manual_seed(0)
    model = Shakespeare(kind)
    begin = time.process_time()
    plan = training_plan(model, F.cross_entropy, example=_batch(10, "cpu"))
    taken = time.process_time() - begin
    return [
        at_most(f"recurrence: operations of a step, {kind}", 400, len(plan.graph.nodes), "operations"),
        at_most(f"recurrence: tracing a step, {kind}", 5, taken, "s"),
        *(_step(kind, model, plan, rows, options) for rows in batches),
    ]


def _batch(rows: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    text = torch.randint(0, CHARACTERS, (rows, STEPS + 1), device=device)
    return text[:, :-1].contiguous(), text[:, -1].contiguous()


def _step(kind: str, model: nn.Module, plan: Plan, rows: int, options: Options) -> Line:
    """Forward, gradients and SGD's update on one batch; both sides read the loss."""
    x, y = _batch(rows, options.device)
    parameters = [p.detach().to(options.device, copy=True) for p in model_parameters(model)]
    executor = RepeatedPlan(
        plan,
        [None, None, torch.tensor([RATE], device=options.device), *parameters],
        varying=[0, 1],
        carried={3 + place: 1 + place for place in range(len(parameters))},
        fixed=[2],
    )
    eager: Any = copy.deepcopy(model).to(options.device)
    optimizer = torch.optim.SGD(eager.parameters(), lr=RATE)

    def ours() -> float:
        return executor([x, y])[0].item()

    def theirs() -> float:
        optimizer.zero_grad()
        loss = F.cross_entropy(eager(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.item()

    if not math.isclose(ours(), theirs(), rel_tol=1e-4):
        raise AssertionError(f"the two sides of {kind} do not compute the same")
    measured = interleave(ours, theirs, rounds=options.rounds(30), clock=clock_of(options.device))
    return measured.line(f"recurrence: Shakespeare step, {kind}, batch {rows}", 1.1)
