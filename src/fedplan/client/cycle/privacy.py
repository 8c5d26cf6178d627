"""What protects a worker in a cycle: what it does itself, and what the grid says that it will do."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import ValidationError

from fedplan.errors import WireError
from fedplan.federation.privacy import Clip, clipped_values
from fedplan.federation.tensors import from_float64, to_float64
from fedplan.wire import State
from fedplan.wire.config import PRIVACY_KEY, ToldPrivacy, explain
from fedplan.wire.state import Places

_MARGIN = 1e-6
"""Of a clip: more than float32 can round up."""


@dataclasses.dataclass(frozen=True, slots=True)
class JobPrivacy:
    """Differential privacy of a cycle, as a worker sees it before it trains; see `Job.privacy`.

    `clip` and `clipping` are what the worker itself does: `Job.report` scales a diff down to them before
    anything is sent, whatever the grid does. All in `told` is what the grid says, and no worker can check:
    it sees the report, and may leave the noise out.

    Attributes:
        clip: the largest norm of what is reported.
        clipping: ``fixed``: of all tensors together; ``per_layer``: of each, clip / √(number of tensors).
        told: what the grid says of its noise and of what is spent.
    """

    clip: float
    clipping: str
    told: ToldPrivacy

    @classmethod
    def of(cls, client_config: Mapping[str, Any]) -> Self | None:
        """What a grid's client_config tells; None where it tells nothing, or holds an owner's own key.

        Raises:
            WireError: it names a mechanism, and something else is missing or wrong.
        """
        told = client_config.get(PRIVACY_KEY)
        if not isinstance(told, Mapping) or "mechanism" not in told:
            return None
        try:
            read = ToldPrivacy.model_validate(told)
        except ValidationError as error:
            raise WireError(
                f"what the grid tells of the privacy cannot be read: {explain(error, ToldPrivacy)}"
            ) from None
        return cls(read.clip, read.clipping, read)

    def clipped(self, diff: bytes, changing: Places) -> bytes:
        """A serialized diff scaled down to the clip; the same bytes if it is within it.

        Args:
            diff: see `Job.report`.
            changing: which of the model's tensors change.

        Raises:
            WireError: it is no State.
            AggregationError: a value is not finite.
        """
        state = State.parse(diff)
        tensors = list(state.tensors)
        whole = state.places is None and changing is not None
        places: Sequence[int] = changing if whole and changing is not None else range(len(tensors))
        values = [to_float64(tensors[place]) for place in places]
        clip = Clip(self.clip, self.clipping == "per_layer")
        bounded = clipped_values(values, clip, self.clip * (1 - _MARGIN))
        if all((before == after).all() for before, after in zip(values, bounded, strict=True)):
            return diff
        for place, array in zip(places, bounded, strict=True):
            tensors[place] = from_float64(array, tensors[place].dtype)
        return State.of(tensors, state.places).serialize()
