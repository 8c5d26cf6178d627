"""The reports of a cycle in memory, in the way in which its strategy takes them."""

import contextlib
import copy
import dataclasses
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from fedplan.federation import (
    UNCHANGED,
    Average,
    ServerState,
    Strategy,
    Sums,
    Tensors,
    Update,
    UpdateBlock,
    as_it_is,
    with_folded,
    with_trained,
)
from fedplan.federation.scratch import Scratch
from fedplan.federation.sums import Measurements, add_metrics, told_metrics
from fedplan.wire import Summary
from fedplan.wire.messages import MetricStatus


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a cycle, as its row of the history has it.

    Attributes:
        reports: those that were averaged, or that measured the model.
        samples: of which they told.
        metrics: by name.
        failure: why it made no checkpoint.
    """

    reports: int = 0
    samples: float = 0.0
    metrics: Mapping[str, MetricStatus] = dataclasses.field(default_factory=dict)
    failure: str | None = None


class Gathered:
    """What a grid would know of a cycle's reports: a sum, and all of them where the strategy needs that.

    The trained tensors of all reports are in a file, and read by slices, if the strategy combines them; their
    diffs are in memory if an averaging Plan folds them.

    Args:
        strategy: the model's.
    """

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy
        self._sums = strategy.nothing()
        self._scratch = None if strategy.combine is None else Scratch(None, strategy.setting)
        self._diffs: list[Tensors] = []
        self._measured = Measurements(strategy.setting.weighting, strategy.setting.metric_names)
        self._exits = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if self._scratch is not None:
            self._exits.enter_context(self._scratch)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    def add(self, update: Update) -> None:
        """Adds a report of a training; its arrays may be written over later.

        Raises:
            AggregationError: a number is too large to be added up, or not finite.
        """
        update = self._strategy.bounded(update)
        contribution = self._strategy.contribution(update)
        self._sums.add(update, contribution)
        if self._scratch is not None:
            self._scratch.add(update.tensors, contribution.factor)
        elif self._strategy.fold is not None:
            self._diffs.append(copy.deepcopy(update.tensors))

    def add_block(self, block: UpdateBlock) -> None:
        """Adds several reports of a training, in their order.

        Raises:
            AggregationError: they have to be added one by one; nothing was added.
        """
        if self._strategy.bound is not None:
            bounded = [self._strategy.bounded(update) for update in block]  # all of them, or none is added
            for update in bounded:
                self._sums.add(update, self._strategy.contribution(update))
            return
        whole = [] if self._strategy.prepare is as_it_is and self._strategy.streams else list(block)
        contributions = [self._strategy.contribution(update) for update in whole] or [UNCHANGED] * len(block)
        self._sums.add_block(block, contributions)
        for update, contribution in zip(whole, contributions, strict=False):
            if self._scratch is not None:
                self._scratch.add(update.tensors, contribution.factor)
            elif self._strategy.fold is not None:
                self._diffs.append(update.tensors)

    def merge(self, sums: Sums) -> None:
        """Adds what was added up elsewhere, of a strategy that streams; ``sums`` is not changed.

        Args:
            sums: began as ``strategy.nothing()``.
        """
        self._sums.merge(sums)

    def measure(self, summary: Summary) -> None:
        """Adds what a client measured that did not train."""
        self._measured.add(summary)

    def measured(self) -> Outcome:
        """What came of a cycle in which clients only measured the model."""
        found = self._measured
        return Outcome(found.reports, float(found.samples), told_metrics(found.metrics))

    def average(self, before: ServerState) -> tuple[Outcome, Average]:
        """What came of a cycle of training, and what the strategy makes of its reports.

        Args:
            before: what the strategy remembers.

        Raises:
            AggregationError: there is no report, or the averaging Plan failed.
        """
        average = self._sums.average()
        if self._scratch is not None and self._strategy.combine is not None:
            vector = self._strategy.combine(self._scratch, before)
            average = with_trained(average, self._strategy.setting, vector)
        elif self._strategy.fold is not None:
            average = with_folded(average, self._strategy.fold(iter(self._diffs)))
        metrics = add_metrics(self._sums.metrics, self._measured.metrics)
        return Outcome(average.reports, average.samples, told_metrics(metrics)), average
