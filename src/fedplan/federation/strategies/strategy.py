"""Strategy: an algorithm of federated learning, as a record of functions over an explicit state."""

import dataclasses
import enum
import math
from collections.abc import Callable, Iterable, Sequence

from fedplan.errors import AggregationError
from fedplan.federation.reports import Reports
from fedplan.federation.state import ServerState
from fedplan.federation.strategies.setting import Setting
from fedplan.federation.sums import Average, Sums
from fedplan.federation.tensors import Float64s, Tensors, apply, check_average, from_float64, to_float64
from fedplan.federation.update import UNCHANGED, Contribution, Update, Weighting
from fedplan.plan.remembered import Remembered
from fedplan.wire import Summary


class Told(enum.StrEnum):
    """What a report may tell beside its diff."""

    SAMPLES = "samples"
    STEPS = "steps"
    LOSS = "loss"


Change = Sequence[Float64s]
"""What is subtracted from each tensor of the model that changes, as float64."""


def as_it_is(_update: Update) -> Contribution:
    """Counts an update unchanged."""
    return UNCHANGED


def nothing_else(_reports: int) -> str:
    """Advises nothing."""
    return ""


@dataclasses.dataclass(frozen=True, slots=True)
class Strategy:
    """How the updates of a cycle change the model. All of its functions are pure.

    Most strategies average the updates: each is added to a sum as it comes, whatever their number. One with
    `combine` or `fold` needs all of them, and gets them when the cycle closes.

    Attributes:
        name: for status and logs.
        setting: the model that it is made for.
        step: (model before, average, state) → (what is subtracted from the model, next state).
        prepare: what to make of an update before it is added.
        uniform: whether updates count the same, whatever the server_config says of their weights.
        combine: (the trained tensors of all updates, state) → those of the average, as one vector; see
            `Reports`. The other tensors and the metrics are averaged all the same.
        fold: the diffs of all updates, one after the other → the diff in place of the average.
        needs: what a report must tell; a client that cannot tell it is not taken.
        least_reports: with fewer reports a cycle cannot be averaged.
        most_reports: with more a cycle cannot be averaged; None: there is no such number.
        population: how many workers there are in all, where the settings say so: no cycle may have more
            reports.
        advice: (reports with which a cycle may be averaged, fewer than `least_reports`) → what else than more
            of them would do, such as "set 'f' to at most 1"; "" if nothing would.
        closes_at: so many reports close a cycle, if the strategy itself says so.
        staleness: so many checkpoints later a report is still taken, into the cycle of then. None: only into
            its own cycle.
        remembers: what its workers keep from cycle to cycle: it trains models whose Plans do that, and no
            others. None: it trains models whose Plans do nothing of the kind.
        bound: update → what is added in its place, whatever its worker sent; None: the update itself.
        release: (average, a key of 32 bytes for its noise) → what `step` gets in the average's place.
    """

    name: str
    setting: Setting
    step: Callable[[Tensors, Average, ServerState], tuple[Change, ServerState]]
    prepare: Callable[[Update], Contribution] = as_it_is
    uniform: bool = False
    combine: Callable[[Reports, ServerState], Float64s] | None = None
    fold: Callable[[Iterable[Tensors]], Tensors] | None = None
    needs: frozenset[Told] = frozenset()
    least_reports: int = 1
    most_reports: int | None = None
    population: int | None = None
    advice: Callable[[int], str] = nothing_else
    closes_at: int | None = None
    staleness: int | None = None
    remembers: Remembered | None = None
    bound: Callable[[Update], Update] | None = None
    release: Callable[[Average, bytes], Average] | None = None

    @property
    def streams(self) -> bool:
        """Whether an update is done with once it is added."""
        return self.combine is None and self.fold is None

    @property
    def weighting(self) -> Weighting:
        """How much an update counts in the average; no metric counts more than `max_weight` either way."""
        told = self.setting.weighting
        return dataclasses.replace(told, by_samples=False) if self.uniform else told

    def bounded(self, update: Update) -> Update:
        """What is added in an update's place.

        Raises:
            AggregationError: it holds what is not finite.
        """
        return update if self.bound is None else self.bound(update)

    def contribution(self, update: Update) -> Contribution:
        """What `prepare` makes of an update.

        Raises:
            AggregationError: it cannot be computed, or multiplies the diff by what is not finite.
        """
        try:
            made = self.prepare(update)
        except ArithmeticError as error:
            raise AggregationError(f"the strategy {self.name} cannot compute with it: {error}") from error
        if not math.isfinite(made.factor):
            raise AggregationError(f"the strategy {self.name} would multiply it by {made.factor}")
        return made

    def check(self, update: Update) -> None:
        """Sees whether an update that fits the model can be averaged, whatever the others are.

        Raises:
            AggregationError: a number is too large, or not finite.
        """
        update = self.bounded(update)
        self.nothing().check(update, self.contribution(update))

    def nothing(self) -> Sums:
        """The sum of no update."""
        setting = self.setting
        skipped: tuple[int, ...] = ()
        if self.combine is not None:
            skipped = setting.trained
        if self.fold is not None:
            skipped = tuple(range(len(setting.roles)))
        return Sums(setting.changing_layout, setting.roles, self.weighting, skipped, setting.metric_names)

    def add(self, sums: Sums, update: Update) -> None:
        """Adds an update to a sum that began as `nothing`."""
        update = self.bounded(update)
        sums.add(update, self.contribution(update))


def with_trained(average: Average, setting: Setting, vector: Float64s) -> Average:
    """An average whose trained tensors are those of a vector, which `Strategy.combine` made: (elements,)."""
    tensors, at = list(average.tensors), 0
    for place in setting.trained:
        size = tensors[place].size
        tensors[place] = vector[at : at + size].reshape(tensors[place].shape)
        at += size
    return dataclasses.replace(average, tensors=tuple(tensors))


def with_folded(average: Average, diff: Tensors) -> Average:
    """An average whose tensors are those that `Strategy.fold` made."""
    return dataclasses.replace(average, tensors=tuple(map(to_float64, diff)))


def lacking(strategy: Strategy, summary: Summary) -> list[Told]:
    """What a strategy needs and a report does not tell."""
    told = {
        Told.SAMPLES: summary.samples is not None,
        Told.STEPS: summary.steps is not None,
        Told.LOSS: "loss" in summary.evaluation or "loss" in summary.metrics,
    }
    return sorted(need for need in strategy.needs if not told[need])


def next_model(
    strategy: Strategy, model: Tensors, average: Average, state: ServerState, key: bytes = b""
) -> tuple[Tensors, ServerState]:
    """The model after a cycle, and the strategy's next state.

    Args:
        strategy: of the model.
        model: before the cycle: the tensors that change.
        average: of the cycle's updates.
        state: the strategy's, before the cycle.
        key: 32 bytes for the noise, where there is a `Strategy.release`: for this one time, and from the
            operating system wherever it protects anybody.

    Raises:
        AggregationError: a value would be infinite, or outside its dtype's range, or cannot be computed.
    """
    layout = tuple((tensor.shape, tensor.dtype) for tensor in model)
    if strategy.release is not None:
        average = strategy.release(average, key)
    try:
        change, state = strategy.step(model, average, state)
    except ArithmeticError as error:
        raise AggregationError(f"the strategy {strategy.name} cannot compute the model: {error}") from error
    rounded = [from_float64(values, dtype) for values, (_, dtype) in zip(change, layout, strict=True)]
    return apply(model, check_average(rounded, layout)), state
