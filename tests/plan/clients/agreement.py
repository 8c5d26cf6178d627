"""Whether clients that train side by side get what each of them gets alone."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from fedplan.plan import Plan, PlanInputSpec, PlanOutputSpec, RandomStream, RepeatedPlan
from fedplan.plan.clients.plan import over_clients
from fedplan.plan.clients.training import ClientsTraining
from fedplan.plan.ops import DTYPES

Batch = tuple[Sequence[torch.Tensor], torch.Tensor]
"""(data, target) of one step of one client."""

RATE = 0.1

OF_UPDATE = {torch.float32: 1e-6, torch.float64: 1e-13}
"""Of the largest number of the update: how far results may be apart."""

LAST_BITS = 2
"""Roundings of a trained number itself; beside an update of a thousandth of it they look large."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a client has after its steps.

    Attributes:
        tensors: of the model and of the optimizer, in the order of their outputs.
        loss: of each step.
    """

    tensors: list[torch.Tensor]
    loss: list[float]


class Federation:
    """Clients that train a Plan from the same model, each on its own batches."""

    def __init__(self, plan: Plan, model: Sequence[torch.Tensor], config: dict[str, float] | None = None):
        self.plan, self.model = plan, [tensor.detach() for tensor in model]
        self.config = {"lr": RATE, **(config or {})}
        specs = [item.spec for item in plan.inputs]
        self.specs = [spec for spec in specs if spec is not None]
        assert len(self.specs) == len(plan.inputs)
        kept = (PlanOutputSpec.TYPE_MODEL_PARAM, PlanOutputSpec.TYPE_OPTIMIZER_STATE)
        outputs = {(s.type, s.index): k for k, s in enumerate(plan.output_specs or []) if s.type in kept}
        self.carried = {
            place: outputs[spec.type, spec.index]
            for place, spec in enumerate(self.specs)
            if (spec.type, spec.index) in outputs
        }
        varies = (
            PlanInputSpec.TYPE_DATA, PlanInputSpec.TYPE_TARGET, PlanInputSpec.TYPE_RANDOM,
            PlanInputSpec.TYPE_STEP, PlanInputSpec.TYPE_BATCH_SIZE,
        )  # fmt: skip
        self.varying = [place for place, spec in enumerate(self.specs) if spec.type in varies]
        fixed = PlanInputSpec.TYPE_CLIENT_CONFIG_PARAM
        self.fixed = [place for place, spec in enumerate(self.specs) if spec.type == fixed]

    def start(self) -> list[Any]:
        """Arguments of one client; those that vary are None."""
        return [None if k in self.varying else self._start(k) for k in range(len(self.specs))]

    def _start(self, place: int) -> torch.Tensor:
        spec, item = self.specs[place], self.plan.inputs[place]
        if spec.type in (PlanInputSpec.TYPE_MODEL_PARAM, PlanInputSpec.TYPE_RECEIVED_PARAM):
            return self.model[spec.index or 0].clone()
        dtype = DTYPES[item.dtype or ""]
        if spec.type == PlanInputSpec.TYPE_OPTIMIZER_STATE:
            return torch.zeros([extent or 0 for extent in item.shape or ()], dtype=dtype)
        if spec.type == PlanInputSpec.TYPE_CYCLE:
            return torch.tensor([3], dtype=dtype)
        assert spec.type == PlanInputSpec.TYPE_CLIENT_CONFIG_PARAM
        return item.tensor(self.config[spec.name or ""])

    def values(self, batch: Batch, stream: RandomStream, step: int) -> list[torch.Tensor]:
        """What varies, for one step of one client."""
        data, target = batch
        rows = len(target)
        drawn = iter(self.plan.draw(stream, rows, cycle=3, step=step))
        found = {
            PlanInputSpec.TYPE_DATA: lambda spec: data[spec.index or 0],
            PlanInputSpec.TYPE_TARGET: lambda _: target,
            PlanInputSpec.TYPE_RANDOM: lambda _: next(drawn),
            PlanInputSpec.TYPE_STEP: lambda _: torch.tensor([step]),
            PlanInputSpec.TYPE_BATCH_SIZE: lambda _: torch.tensor([rows]),
        }
        return [found[self.specs[place].type](self.specs[place]) for place in self.varying]

    def alone(self, number: int, batches: Sequence[Batch]) -> Trained:
        """What a client gets that trains alone."""
        run = RepeatedPlan(
            self.plan, self.start(), varying=self.varying, carried=self.carried, fixed=self.fixed
        )
        outputs: list[torch.Tensor] = []
        losses = []
        for step, batch in enumerate(batches):
            outputs = run(self.values(batch, RandomStream(number), step))
            losses.append(self._loss(outputs))
        return Trained([outputs[output].clone() for output in self.carried.values()], losses)

    def _loss(self, outputs: Sequence[torch.Tensor]) -> float:
        kinds = [spec.type for spec in self.plan.output_specs or []]
        return float(outputs[kinds.index(PlanOutputSpec.TYPE_LOSS)])

    def together(self, batches: Sequence[Sequence[Batch]]) -> list[Trained]:
        """What clients get that train side by side, however many batches each has, and of whatever sizes."""
        clients = over_clients(self.plan)
        apart = {*clients.apart, *self.carried}
        one = self.start()
        given = [
            torch.stack([value] * len(batches)) if place in apart and value is not None else value
            for place, value in enumerate(one)
        ]
        run = ClientsTraining(clients, given, varying=self.varying, carried=self.carried, fixed=self.fixed)
        losses: list[list[float]] = [[] for _ in batches]
        kept = [k for k in range(len(self.plan.outputs)) if k not in self.carried.values()]
        for step in range(max(map(len, batches))):
            values = [
                self.values(own[step], RandomStream(number), step) if step < len(own) else None
                for number, own in enumerate(batches)
            ]
            for loss, outputs in zip(losses, run.step(values), strict=True):
                if outputs is not None:
                    whole = [torch.empty(0)] * len(self.plan.outputs)
                    for place, value in zip(kept, outputs, strict=True):
                        whole[place] = value
                    loss.append(self._loss(whole))
        carried = run.carried()
        return [
            Trained([carried[place][number] for place in self.carried], losses[number])
            for number in range(len(batches))
        ]

    def check(self, batches: Sequence[Sequence[Batch]], of_update: float | None = None) -> None:
        """Trains all clients together and each alone, and compares them.

        Args:
            batches: of each client, one after the other.
            of_update: how far apart they may be, in parts of the largest number of the update.
        """
        together = self.together(batches)
        for number, own in enumerate(batches):
            alone = self.alone(number, own)
            assert_alike(together[number], alone, self._before(), of_update)

    def _before(self) -> list[torch.Tensor]:
        return [self._start(place) for place in self.carried]


def assert_alike(
    ours: Trained, alone: Trained, before: Sequence[torch.Tensor], of_update: float | None = None
) -> None:
    """Raises AssertionError when a client has another model than it has alone."""
    pairs = list(zip(before, alone.tensors, strict=True))
    update = max(
        (float((b - a).abs().max()) for b, a in pairs if b.numel() and b.is_floating_point()), default=0.0
    )
    for mine, theirs in zip(ours.tensors, alone.tensors, strict=True):
        assert mine.shape == theirs.shape
        assert mine.dtype == theirs.dtype
        if not theirs.is_floating_point():
            assert torch.equal(mine, theirs)
            continue
        allowed = (OF_UPDATE[theirs.dtype] if of_update is None else of_update) * update
        rounding = LAST_BITS * torch.finfo(theirs.dtype).eps
        torch.testing.assert_close(mine, theirs, rtol=rounding, atol=allowed, equal_nan=True)
    torch.testing.assert_close(torch.tensor(ours.loss), torch.tensor(alone.loss), rtol=2e-5, atol=1e-6)
