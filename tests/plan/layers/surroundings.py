"""What people put around a layer, and what tempts a tracer to take a tensor for a constant.

Each surrounding takes a model of three layers (`Between`) and its loss and returns both, changed.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.plan.layers.cases import Between, Score

Surrounding = Callable[[Between, Score], tuple[nn.Module, Score]]


def alone(model: Between, score: Score) -> tuple[nn.Module, Score]:
    return model, score


# The backward pass runs outside of the call that the tensors were given to


def _recomputed(reentrant: bool) -> Surrounding:
    def surround(model: Between, score: Score) -> tuple[nn.Module, Score]:
        call = model.call
        model.call = lambda layer, x: checkpoint(call, layer, x, use_reentrant=reentrant)
        return model, score

    return surround


# The loss looks at the model


def penalised(model: Between, score: Score) -> tuple[nn.Module, Score]:
    """An L2 penalty, written over the model's parameters."""

    def penalty(output: Any, target: torch.Tensor) -> torch.Tensor:
        return score(output, target) + 0.1 * sum(p.square().sum() for p in model.parameters())

    return model, penalty


def proximal(model: Between, score: Score) -> tuple[nn.Module, Score]:
    """FedProx: a penalty on the distance from where training began."""
    start = [p.detach().clone() for p in model.parameters()]

    def penalty(output: Any, target: torch.Tensor) -> torch.Tensor:
        pairs = zip(model.parameters(), start, strict=True)
        return score(output, target) + 0.1 * sum((p - s).square().sum() for p, s in pairs)

    return model, penalty


# Some parameters are special


def frozen(model: Between, score: Score) -> tuple[nn.Module, Score]:
    model.before.requires_grad_(False)
    return model, score


def shared(model: Between, score: Score) -> tuple[nn.Module, Score]:
    """The first layer is used twice."""
    call = model.call
    model.call = lambda layer, x: call(layer, model.before(x))
    return model, score


def unused(model: Between, score: Score) -> tuple[nn.Module, Score]:
    """A parameter that the loss does not depend on."""
    model.unused = nn.Parameter(torch.ones(3))
    return model, score


def _with_gradient_hook(register: str) -> Surrounding:
    """A hook on a parameter, which changes its gradient."""

    def surround(model: Between, score: Score) -> tuple[nn.Module, Score]:
        parameter = model.after.weight
        if register == "register_hook":
            parameter.register_hook(lambda gradient: gradient * 0.5)
        else:
            parameter.register_post_accumulate_grad_hook(_halve_gradient)
        return model, score

    return surround


def _halve_gradient(parameter: torch.Tensor) -> None:
    parameter.grad *= 0.5


def hooked(model: Between, score: Score) -> tuple[nn.Module, Score]:
    """Hooks on a module: of its forward and of its backward."""
    model.after.register_forward_hook(lambda module, inputs, output: output * 2)
    model.after.register_full_backward_hook(lambda module, into, out: (into[0] * 0.5,))
    return model, score


def _reparametrised(with_norm: Callable[[nn.Module], nn.Module]) -> Surrounding:
    def surround(model: Between, score: Score) -> tuple[nn.Module, Score]:
        model.after = with_norm(model.after)
        return model, score

    return surround


def orthogonal(model: Between, score: Score) -> tuple[nn.Module, Score]:
    """An orthogonal weight, where its square is not larger than a test can wait for."""
    if model.after.weight.numel() < 3000:
        model.after = norms.orthogonal(model.after)
    return model, score


# Modes


def evaluated(model: Between, score: Score) -> tuple[nn.Module, Score]:
    """The layer is in eval mode, as batch norms are that are fine-tuned."""
    model.layer.eval()
    return model, score


# Forward writes what it reads


class Written(nn.Module):
    """A model whose forward reads and writes a state of its own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


class Counting(Written):
    """Counts its steps in an integer, as schedules inside of models do."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        return self.model(x) * (1 + 1 / self.steps)


class Flagged(Written):
    """Does something else the first time, as layers do that initialise themselves from data."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.register_buffer("seen", torch.zeros((), dtype=torch.bool))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = self.model(x)
        made = torch.where(self.seen.clone(), made, made * 2)
        self.seen |= True
        return made


class Averaging(Written):
    """Keeps a moving average in place."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = self.model(x)
        with torch.no_grad():
            self.mean.mul_(0.9).add_(made.mean(dim=0), alpha=0.1)
        return made - self.mean


class Reassigning(Averaging):
    """Puts another tensor in a buffer's place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = self.model(x)
        self.mean = 0.9 * self.mean + 0.1 * made.detach().mean(dim=0)
        return made - self.mean


class Caching(Written):
    """Keeps its last output in a plain attribute, for somebody to look at."""

    last: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = self.model(x)
        self.last = made.detach()
        return made


class Numbering(Written):
    """Counts its steps in a number of Python, which no Plan can hold."""

    steps = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        return self.model(x) * (1 + 1 / self.steps)


class Listing(Written):
    """Reads a parameter from a list of its own, where PyTorch does not look for parameters."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.weights = [model.after.weight]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x) + self.model.inner(x) @ self.weights[0].T


class Following(Written):
    """Has a copy that follows the model slowly, as momentum encoders do."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.follower = copy.deepcopy(model.after).requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            for old, new in zip(self.follower.parameters(), self.model.after.parameters(), strict=True):
                old.mul_(0.9).add_(new, alpha=0.1)
        inner = self.model.inner(x)
        return self.model.after(inner) + self.follower(inner)


class Taught(Written):
    """Learns from a model that is no part of it: that one's weights are the Plan's own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.teacher = [copy.deepcopy(model).requires_grad_(False)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x) - self.teacher[0].after(self.model.inner(x))


def _inside(kind: type[Written]) -> Surrounding:
    return lambda model, score: (kind(model), score)


norms = nn.utils.parametrizations
SURROUNDINGS: Mapping[str, Surrounding] = {
    "alone": alone,
    "activation checkpoint": _recomputed(reentrant=False),
    "reentrant activation checkpoint": _recomputed(reentrant=True),
    "penalty over model.parameters()": penalised,
    "FedProx term over model.parameters()": proximal,
    "frozen layer": frozen,
    "layer used twice": shared,
    "unused parameter": unused,
    "hook on a parameter": _with_gradient_hook("register_hook"),
    "hook after a parameter's gradient": _with_gradient_hook("register_post_accumulate_grad_hook"),
    "hooks on a module": hooked,
    "parametrizations.weight_norm": _reparametrised(norms.weight_norm),
    "parametrizations.spectral_norm": _reparametrised(norms.spectral_norm),
    "parametrizations.orthogonal": orthogonal,
    "utils.weight_norm": _reparametrised(nn.utils.weight_norm),
    "utils.spectral_norm": _reparametrised(nn.utils.spectral_norm),
    "layer in eval mode": evaluated,
    "integer buffer that forward writes": _inside(Counting),
    "bool buffer that forward writes": _inside(Flagged),
    "float buffer that forward writes": _inside(Averaging),
    "float buffer that forward replaces": _inside(Reassigning),
    "tensor that forward sets anew in an attribute": _inside(Caching),
    "number of Python that forward counts": _inside(Numbering),
    "parameter in a list": _inside(Listing),
    "frozen copy that follows the model": _inside(Following),
    "teacher outside of the model": _inside(Taught),
}
