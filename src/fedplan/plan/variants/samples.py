"""Inputs to try a Plan with: the same for everybody who has the same seed.

Random numbers are valid where the op list runs with them. What nobody can guess (words, classes, lengths) is
found out by trying, or read from an example of the author's.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from fedplan.errors import PlanExecutionError, PlanFormatError
from fedplan.plan.ir.graph import Graph
from fedplan.plan.ops import DTYPES
from fedplan.plan.run.interpreter import interpret
from fedplan.plan.signature import PlanInput
from fedplan.plan.spec import PlanInputSpec
from fedplan.plan.variants.random_inputs import draw

_ABOVE = (1000, 100, 10, 4, 3, 2)
"""Integers are drawn below the first of these with which the Plan runs: class numbers, words."""

_LOWEST = (0, 1)
"""The smallest integer is the first of these with which the Plan runs: a length must not be zero."""

_ROWS = (3, 5, 8, 16)
"""Extents of dimensions of any size: ranges are looked for with the first with which the Plan gives finite
results, or runs. One that takes the ten largest losses of a batch needs as many rows."""

_FINITE, _RUNS, _FAILS = 2, 1, 0
"""What a Plan makes of arguments."""

Range = tuple[int, int]
"""The smallest integer, and what all are below."""


class Samples:
    """Arguments for a Plan, with which its op list runs.

    Attributes:
        rows: a batch size with which the results are finite, if any that is tried is one.
    """

    def __init__(
        self,
        graph: Graph,
        inputs: Sequence[PlanInput],
        model: Sequence[Tensor] | None = None,
        example: Sequence[Tensor] | None = None,
    ) -> None:
        """Finds out which numbers the Plan can take.

        Args:
            graph: the Plan's operations.
            inputs: the Plan's inputs.
            model: the model's parameters; random ones by default.
            example: the author's own values of the inputs that take data, in order.

        Raises:
            PlanFormatError: an input does not say its shape or dtype, or an example does not fit it.
            PlanExecutionError: the op list runs with none of the inputs that were tried.
        """
        self._graph, self._inputs, self._model = graph, inputs, model
        self._example = {} if example is None else _fitted(inputs, example)
        self.rows, self._ranges = self._found()

    def draw(self, rows: int, seed: int = 0) -> list[Tensor]:
        """Arguments with which the op list gives finite results, if any that are tried do.

        Args:
            rows: extent of dimensions of any size.
            seed: of the random numbers, those of random inputs among them.

        Raises:
            PlanExecutionError: the op list runs with none of the inputs that were tried.
        """
        failure: PlanExecutionError | None = None
        ran: list[Tensor] | None = None
        for positive in (False, True):  # a variance or a second moment must not be negative
            for ranges in self._narrower():
                arguments = self._drawn(rows, ranges, positive, seed)
                try:
                    outputs = interpret(self._graph, arguments)
                except PlanExecutionError as error:
                    failure = error
                    continue
                if finite(outputs):
                    return arguments
                ran = ran or arguments
                break  # integers fit; the numbers do not
        if ran is not None:
            return ran
        raise failure or PlanExecutionError("the Plan's op list runs with none of the inputs that were tried")

    def draw_alone(self) -> list[Tensor] | None:
        """Arguments for a single sample; None where the op list runs with none."""
        try:
            return self.draw(1)
        except PlanExecutionError:  # it divides the batch by two, for one
            return None

    def example(self) -> list[Tensor] | None:
        """Arguments with the author's own example; None without one, or if the op list does not run with it.

        An example of one number throughout, such as zeros, shows shapes only, and is none here.
        """
        values = [value for value in self._example.values() if value.numel() > 1]
        if not values or any(bool((value == value.flatten()[0]).all()) for value in values):
            return None
        rows = next(
            (
                value.shape[0]
                for place, value in self._example.items()
                if (self._inputs[place].shape or (0,))[0] is None
            ),
            self.rows,
        )
        drawn = self._drawn(rows, self._ranges, False, 0)
        arguments = [self._example.get(place, value) for place, value in enumerate(drawn)]
        return arguments if self._made(arguments) else None

    def _found(self) -> tuple[int, dict[int, Range]]:
        """Rows with which the Plan runs, and for each input of integers the widest range that it takes."""
        places = [place for place, item in enumerate(self._inputs) if _is_free_integer(item)]
        ranges = {place: self._shown(place) for place in places}
        known = {place: found for place, found in ranges.items() if found is not None}
        unknown = [place for place in places if place not in known]
        best, rows, found = _FAILS, _ROWS[0], known | dict.fromkeys(unknown, (0, 1))
        for count, lowest in itertools.product(_ROWS, itertools.product(_LOWEST, repeat=len(unknown))):
            tried = known | {place: (low, low + 1) for place, low in zip(unknown, lowest, strict=True)}
            made = self._tried(tried, count)
            if made > best:
                best, rows, found = made, count, tried
            if made == _FINITE:
                break
        for place in unknown:
            low = found[place][0]
            wider = ({**found, place: (low, above)} for above in _ABOVE if above > low + 1)
            found = next((ranges for ranges in wider if self._tried(ranges, rows)), found)
        return rows, found

    def _shown(self, place: int) -> Range | None:
        """The range of an example's integers, if it has more than one."""
        shown = self._example.get(place)
        if shown is None or shown.numel() < 2 or shown.min() == shown.max():
            return None
        return int(shown.min()), int(shown.max()) + 1

    def _tried(self, ranges: Mapping[int, Range], rows: int) -> int:
        made = _FAILS
        for positive in (False, True):
            made = max(made, self._made(self._drawn(rows, ranges, positive, 0)))
            if made == _FINITE:
                break
        return made

    def _made(self, arguments: Sequence[Tensor]) -> int:
        """What the op list makes of these."""
        try:
            return _FINITE if finite(interpret(self._graph, arguments)) else _RUNS
        except PlanExecutionError:
            return _FAILS

    def _narrower(self) -> Iterator[dict[int, Range]]:
        """The ranges, and narrower ones: integers that are valid one by one need not be so together."""
        yield self._ranges
        for above in _ABOVE[2:]:
            yield {p: (low, min(high, max(low + 1, above))) for p, (low, high) in self._ranges.items()}
        yield {place: (low, low + 1) for place, (low, _) in self._ranges.items()}

    def _drawn(self, rows: int, ranges: Mapping[int, Range], positive: bool, seed: int) -> list[Tensor]:
        random = torch.Generator().manual_seed(seed)
        drawn = _Draw(rows, positive, random, self._model)
        chance = draw(self._graph, self._inputs, rows, seed)
        return [
            chance[place] if place in chance else drawn.one(item, ranges.get(place, (0, 1)))
            for place, item in enumerate(self._inputs)
        ]


def finite(values: Sequence[Tensor]) -> bool:
    """Whether all their elements are."""
    return all(bool(torch.isfinite(value).all()) for value in values)


def _fitted(inputs: Sequence[PlanInput], example: Sequence[Tensor]) -> dict[int, Tensor]:
    """The author's example by the places of the inputs that it fills.

    Raises:
        PlanFormatError: it does not fit them.
    """
    places = [place for place, item in enumerate(inputs) if item.is_data]
    if len(example) != len(places):
        raise PlanFormatError(
            f"the example has {len(example)} tensors, and the Plan takes {len(places)}: "
            f"{', '.join(inputs[place].name for place in places)}"
        )
    return {p: inputs[p].tensor(value).detach() for p, value in zip(places, example, strict=True)}


def _is_free_integer(item: PlanInput) -> bool:
    dtype = None if item.dtype is None else DTYPES[item.dtype]
    whole = dtype is not None and not dtype.is_floating_point and dtype != torch.bool
    return whole and item.is_data


@dataclasses.dataclass(frozen=True, slots=True)
class _Draw:
    """Draws arguments one after the other.

    Attributes:
        rows: extent of dimensions of any size.
        positive: numbers shall be above zero.
        random: where they come from.
        model: the model's parameters, if they are known.
    """

    rows: int
    positive: bool
    random: torch.Generator
    model: Sequence[Tensor] | None

    def one(self, item: PlanInput, within: Range) -> Tensor:
        """An argument for one input."""
        extents, name = item.with_rows(self.rows)
        kind = None if item.spec is None else item.spec.type
        index = 0 if item.spec is None or item.spec.index is None else item.spec.index
        if kind == PlanInputSpec.TYPE_MODEL_PARAM and self.model is not None and index < len(self.model):
            return self.model[index].detach()
        shape, dtype = list(extents), DTYPES[name]
        if kind == PlanInputSpec.TYPE_OPTIMIZER_STATE and self.positive:
            return torch.zeros(shape, dtype=dtype)  # as at the start of a cycle
        known = _DRAWN.get(kind)
        if known is not None:
            numbers = known(shape, self.rows, self.random)
            return numbers.to(dtype) if dtype.is_floating_point else numbers.ceil().to(dtype)
        if dtype == torch.bool:
            return torch.randint(0, 2, shape, generator=self.random).to(dtype)
        if not dtype.is_floating_point:
            return torch.randint(*within, shape, generator=self.random).to(dtype)
        numbers = torch.randn(shape, generator=self.random) * 0.5
        return (numbers.abs() + 0.1 if self.positive else numbers).to(dtype)


def _rate(shape: list[int], rows: int, random: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=random) * 0.1 + 0.1


def _size(shape: list[int], rows: int, random: torch.Generator) -> Tensor:
    return torch.full(shape, rows)


def _kept(shape: list[int], rows: int, random: torch.Generator) -> Tensor:
    """What an optimizer keeps may not be negative; a count is a whole number."""
    if shape in ([], [1]):
        return torch.full(shape, 3.0)
    return torch.rand(shape, generator=random) * 0.1


_DRAWN: dict[str | None, Callable[[list[int], int, torch.Generator], Tensor]] = {
    PlanInputSpec.TYPE_CLIENT_CONFIG_PARAM: _rate,
    PlanInputSpec.TYPE_BATCH_SIZE: _size,
    PlanInputSpec.TYPE_OPTIMIZER_STATE: _kept,
}
"""Inputs that stand for something whose numbers are of a kind."""
