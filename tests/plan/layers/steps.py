"""A training step as it is drawn: a layer or loss, what is put around it, and what trains it."""

import dataclasses
import functools
from collections.abc import Mapping

import torch
from hypothesis import strategies as st
from torch import nn

from tests.plan.layers.cases import ROWS, Case, Choice, Optimizer, Score
from tests.plan.layers.layer import Layer
from tests.plan.layers.layers import LAYERS
from tests.plan.layers.losses import LOSSES, Loss
from tests.plan.layers.surroundings import SURROUNDINGS

OPTIMIZERS: Mapping[str, Optimizer] = {
    "SGD": torch.optim.SGD,
    "SGD with momentum and decay": functools.partial(
        torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=0.01, nesterov=True
    ),
}
ALONE, PLAIN = "alone", "SGD"
SIZES = (ROWS, (3, 1, 6), (1, 2, 5))
"""Batch sizes: of the example, and of the runs."""


@dataclasses.dataclass(frozen=True)
class Step:
    """One example of the property.

    Attributes:
        choice: a layer or loss with its options.
        surrounding: name of what is put around a layer.
        optimizer: name of the optimizer.
        rows: batch sizes: of the example, then of the runs.
    """

    choice: Choice
    surrounding: str = ALONE
    optimizer: str = PLAIN
    rows: tuple[int, ...] = ROWS

    def __str__(self) -> str:
        parts = [str(self.choice), self.surrounding, self.optimizer, f"rows {self.rows}"]
        return ", ".join(part for part in parts if part not in (ALONE, PLAIN))

    @property
    def subject(self) -> Layer | Loss:
        return LAYERS.get(self.choice.of) or LOSSES[self.choice.of]

    def case(self) -> Case:
        plain = self.subject.case(self.choice)

        def build() -> tuple[nn.Module, Score]:
            model, score = plain.build()
            return (
                (model, score) if self.surrounding == ALONE else SURROUNDINGS[self.surrounding](model, score)
            )

        return dataclasses.replace(
            plain, name=str(self), build=build, rows=self.rows, optimizer=OPTIMIZERS[self.optimizer]
        )


def steps(subject: Layer | Loss) -> st.SearchStrategy[Step]:
    """Random steps of one layer or loss; the simplest is the plain one."""
    choices = subject.menu.choices()
    around = st.just(ALONE)
    if isinstance(subject, Layer):
        around = st.one_of(around, st.sampled_from(list(SURROUNDINGS)))
    return st.builds(Step, choices, around, st.sampled_from(list(OPTIMIZERS)), st.sampled_from(SIZES))
