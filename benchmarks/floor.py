"""Perceptrons of many clients under SGD, written by hand: what no way of computing them can be far below.

There is no autograd, products are those of stacks into tensors that exist already, and the update is inside
the gradient's product.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

CLASSES = 10


class Floor:
    """Clients side by side, each with layers of its own and ReLU in between.

    Args:
        state: weight and bias of each layer, as all clients begin.
        at_once: how many clients there may be.
        rows: samples in a batch.
        rate: the learning rate.
    """

    def __init__(self, state: Sequence[Tensor], at_once: int, rows: int, rate: float) -> None:
        self.rate = rate
        self.weights = [t.new_empty(at_once, *t.shape) for t in state[0::2]]
        self.biases = [t.new_empty(at_once, *t.shape) for t in state[1::2]]
        self.outputs = [w.new_empty(at_once, rows, w.shape[1]) for w in self.weights]
        self.gradients = [w.new_empty(at_once, rows, w.shape[2]) for w in self.weights]
        self.numbers = torch.arange(at_once * rows, device=state[0].device)

    def begin(self, state: Sequence[Tensor]) -> None:
        """All clients begin anew."""
        starts = iter(state)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            weight.copy_(next(starts))
            bias.copy_(next(starts))

    def trained(self, count: int) -> list[Tensor]:
        """Weight and bias of each layer, of the first clients."""
        pairs = zip(self.weights, self.biases, strict=True)
        return [tensor[:count] for pair in pairs for tensor in pair]

    def step(self, x: Tensor, y: Tensor, count: int) -> None:
        """A step of the first clients: x (clients, rows, features), y (clients, rows)."""
        layers = range(len(self.weights))
        weights, biases = [w[:count] for w in self.weights], [b[:count] for b in self.biases]
        inputs = [x]
        for layer in layers:
            out = self.outputs[layer][:count]
            torch.baddbmm(biases[layer].unsqueeze(1), inputs[-1], weights[layer].mT, out=out)
            inputs.append(out.relu_() if layer + 1 < len(layers) else out)
        scores = inputs.pop().view(-1, CLASSES).t()
        gradient = torch.softmax(scores, 0).t().contiguous()
        gradient[self.numbers[: len(gradient)], y.flatten()] -= 1
        gradient = gradient.div_(x.shape[1]).view(*x.shape[:2], CLASSES)
        for layer in reversed(layers):
            before = self.gradients[layer][:count]
            if layer:
                torch.bmm(gradient, weights[layer], out=before)
            weights[layer].baddbmm_(gradient.mT, inputs[layer], alpha=-self.rate)
            biases[layer].sub_(gradient.sum(1), alpha=self.rate)
            if layer:
                gradient = torch.ops.aten.threshold_backward.grad_input(
                    before, inputs[layer], 0, grad_input=before
                )
