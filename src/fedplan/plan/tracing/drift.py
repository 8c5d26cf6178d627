"""What keeps a worker's training from drifting away from the others': FedProx, SCAFFOLD, FedDyn.

Each is a term that is added to the gradients of a step. SCAFFOLD and FedDyn remember something of each worker
from cycle to cycle: buffers beside the model, which the worker keeps for itself.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fedplan.errors import TraceError
from fedplan.plan.remembered import OWN, WRAPPED
from fedplan.plan.tracing.context import StepContext

Tensors = Mapping[str, Tensor]


class Correction(Protocol):
    """A term of the gradients."""

    @property
    def config(self) -> tuple[str, ...]:
        """Keys of the client_config that it reads."""

    def gradient(self, name: str, gradient: Tensor, now: Tensor, step: StepContext) -> Tensor:
        """The gradient of a parameter with the term added; `now` is the parameter before the update."""

    def remembered(self, trained: Tensors, step: StepContext, rate: Tensor | float) -> dict[str, Tensor]:
        """By name, the buffers after the step, of which the trained parameters are given."""


@dataclasses.dataclass(frozen=True, slots=True)
class Proximal:
    """FedProx (Li et al. 2020): the gradient of μ/2 ‖w − w₀‖², where w₀ is the model as received.

    Attributes:
        mu: the key of the client_config that holds μ, or μ itself.
    """

    mu: str | float

    @property
    def config(self) -> tuple[str, ...]:
        """The key, if it is one."""
        return (self.mu,) if isinstance(self.mu, str) else ()

    def gradient(self, name: str, gradient: Tensor, now: Tensor, step: StepContext) -> Tensor:
        """See `Correction`."""
        return gradient + _number(self.mu, step) * (now - step.received[name])

    def remembered(self, trained: Tensors, step: StepContext, rate: Tensor | float) -> dict[str, Tensor]:
        """Nothing."""
        return {}


class _Buffers(nn.Module):
    """One buffer of zeros for each parameter that is trained."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        for number, parameter in enumerate(parameters.values()):
            self.register_buffer(str(number), torch.zeros_like(parameter))


class Remembering(nn.Module):
    """A module with buffers beside it in which its Plan remembers something. Use one of its subclasses.

    Attributes:
        module: the module that is trained.
        config: keys of the client_config that its Plan reads.
        private: names of the buffers that each worker keeps for itself, as patterns.
        controls: names of the buffers that the grid changes from what workers report, as patterns.
    """

    config: tuple[str, ...] = ()
    private: tuple[str, ...] = (f"{OWN}.*",)
    controls: tuple[str, ...] = ()

    def __init__(self, module: nn.Module) -> None:
        """Makes the buffers for the parameters that require a gradient now."""
        super().__init__()
        self.module = module
        trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if not trainable:
            raise TraceError("the module has no parameter that requires a gradient")
        self._numbers = {f"{WRAPPED}.{name}": number for number, name in enumerate(trainable)}
        self.own = _Buffers(trainable)

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """What the module computes."""
        return self.module(*arguments, **named)


class ControlVariates(Remembering):
    """A module as SCAFFOLD trains it (Karimireddy et al. 2020, with option II): with control variates.

    ::

        model = ControlVariates(net)
        plan = training_plan(model, loss, example=batch)
        grid.host_federated_training(model, {"training_plan": plan}, client_config,
            {"strategy": {"name": "scaffold", "population": 100}, …}, variants=[])

    The worker's gradients are corrected by c − cᵢ. After K steps cᵢ becomes cᵢ − c + (x − y)/(K lr), where x
    is the model as received and y the trained one; the worker keeps cᵢ for itself (see ``state=`` of
    `Syft.new_job`) and reports the change of it as that of c. The optimizer must be plain SGD.
    """

    controls = ("of_all.*",)

    def __init__(self, module: nn.Module) -> None:
        """Makes the variates, zeros at first."""
        super().__init__(module)
        self.of_all = _Buffers({name: self.get_parameter(name) for name in self._numbers})

    def gradient(self, name: str, gradient: Tensor, now: Tensor, step: StepContext) -> Tensor:
        """See `Correction`."""
        number = self._numbers[name]
        return gradient + step.received[f"of_all.{number}"] - step.received[f"own.{number}"]

    def remembered(self, trained: Tensors, step: StepContext, rate: Tensor | float) -> dict[str, Tensor]:
        """The variates as they are if this is the cycle's last step."""
        found, steps = {}, step.number + 1
        for name, number in self._numbers.items():
            received = step.received
            of_all, before = received[f"of_all.{number}"], received[f"own.{number}"]
            own = before - of_all + (received[name] - trained[name]) / (steps * rate)
            found[f"own.{number}"] = own
            found[f"of_all.{number}"] = of_all + (own - before)
        return found


class DynamicRegularizer(Remembering):
    """A module as FedDyn trains it (Acar et al. 2021): with the gradients that a worker remembers.

    ::

        model = DynamicRegularizer(net, alpha="alpha")
        plan = training_plan(model, loss, example=batch)
        grid.host_federated_training(model, {"training_plan": plan}, {"alpha": 0.01, …},
            {"strategy": {"name": "feddyn", "population": 100, "alpha": 0.01}, …}, variants=[])

    The gradients are corrected by α (w − w₀) − gᵢ, where w₀ is the model as received; then gᵢ becomes
    gᵢ − α (w − w₀), and the worker keeps it for itself (see ``state=`` of `Syft.new_job`).
    """

    def __init__(self, module: nn.Module, alpha: str | float = "alpha") -> None:
        """Makes the remembered gradients, zeros at first.

        Args:
            module: what is trained.
            alpha: the key of the client_config that holds α, or α itself.
        """
        super().__init__(module)
        self._alpha = alpha
        self.config = (alpha,) if isinstance(alpha, str) else ()

    def gradient(self, name: str, gradient: Tensor, now: Tensor, step: StepContext) -> Tensor:
        """See `Correction`."""
        remembered = step.received[f"own.{self._numbers[name]}"]
        return gradient - remembered + _number(self._alpha, step) * (now - step.received[name])

    def remembered(self, trained: Tensors, step: StepContext, rate: Tensor | float) -> dict[str, Tensor]:
        """The gradients as they are if this is the cycle's last step."""
        alpha = _number(self._alpha, step)
        return {
            f"own.{number}": step.received[f"own.{number}"] - alpha * (trained[name] - step.received[name])
            for name, number in self._numbers.items()
        }


def corrections_of(model: nn.Module, proximal: str | float | None) -> list[Correction]:
    """The terms with which a model is trained.

    Raises:
        TraceError: μ is no number and no key.
    """
    found: list[Correction] = []
    if proximal is not None:
        if isinstance(proximal, bool) or not isinstance(proximal, str | int | float):
            raise TraceError(
                f"proximal is a {type(proximal).__name__}: give the client_config key of μ, such as "
                'proximal="mu", or a number that the Plan keeps'
            )
        found.append(Proximal(proximal))
    if isinstance(model, ControlVariates | DynamicRegularizer):
        found.append(model)
    return found


def _number(key: str | float, step: StepContext) -> Tensor | float:
    return step.config[key] if isinstance(key, str) else key
