"""A worker's update as whole numbers that are added up, and the average that comes of their sum."""

import dataclasses
import secrets
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedplan.errors import SecureAggregationError, SecureRoundError
from fedplan.federation.secure.figures import WEIGHT, WORKERS, from_ring, to_ring
from fedplan.federation.secure.keys import KEY_BYTES
from fedplan.federation.secure.manifest import Manifest
from fedplan.federation.secure.quantisation import dequantise, draws, most_of, quantise
from fedplan.federation.secure.streams import Masked
from fedplan.federation.tensors import Float64s


@dataclasses.dataclass(frozen=True, slots=True)
class Payload:
    """What a worker adds, or a sum of that.

    Attributes:
        values: of the vector, int64.
        figures: beside it.
    """

    values: NDArray[np.int64]
    figures: tuple[int, ...]

    def masked(self, manifest: Manifest) -> Masked:
        """The same numbers in their rings, to which masks can be added."""
        return Masked(manifest.ring, manifest.ring.residues(self.values), to_ring(self.figures))


@dataclasses.dataclass(frozen=True, slots=True)
class SecureAverage:
    """What a secure round tells of its workers.

    Attributes:
        tensors: the weighted average of each tensor, one dimension, float64.
        figures: the sum of each figure.
    """

    tensors: tuple[Float64s, ...]
    figures: Mapping[str, float]


def payload_of(
    manifest: Manifest,
    tensors: Sequence[NDArray[np.float32] | Float64s],
    figures: Mapping[str, float],
    key: bytes | None = None,
) -> tuple[Payload, list[Float64s]]:
    """A worker's update as whole numbers, and what was clipped and rounded away of each tensor.

    Args:
        manifest: of the round.
        tensors: of the update, as many values in each as the manifest says.
        figures: by name: `WEIGHT`, and any others of the manifest's; those that are absent count 0.
        key: 32 random bytes for the stochastic rounding; drawn from the operating system when absent.

    Raises:
        SecureAggregationError: tensors or figures do not fit the manifest, or are not finite.
    """
    if [tensor.size for tensor in tensors] != list(manifest.sizes):
        raise SecureAggregationError("the update has other tensors than the round adds up")
    known = {figure.name for figure in manifest.figures} - {WORKERS}
    if not {WEIGHT} <= set(figures) <= known:
        others = ", ".join(sorted(known - {WEIGHT})) or "no other"
        raise SecureAggregationError(f"a report needs the figure '{WEIGHT}', and may have {others}")
    drawn = draws(secrets.token_bytes(KEY_BYTES) if key is None else key, manifest.values)
    share, values, left, begin = figures[WEIGHT] / manifest.most_weight, [], [], 0
    for tensor, exponent in zip(tensors, manifest.exponents, strict=True):
        part = drawn[begin : begin + tensor.size]
        made = quantise(tensor.reshape(-1), exponent, manifest.value_bits, share, part)
        values.append(made.values)
        left.append(made.left.reshape(tensor.shape))
        begin += tensor.size
    told = {**figures, WORKERS: 1.0}
    encoded = tuple(figure.encoded(told.get(figure.name, 0.0)) for figure in manifest.figures)
    return Payload(np.concatenate(values) if values else np.zeros(0, np.int64), encoded), left


def sum_of(manifest: Manifest, unmasked: Masked, reports: int) -> Payload:
    """The sum that is left when all masks are off, if it can be one.

    Args:
        manifest: of the round.
        unmasked: what is left.
        reports: over how many it is taken.

    Raises:
        SecureRoundError: so many reports cannot have this sum.
    """
    values, figures = manifest.ring.signed(unmasked.vector), from_ring(unmasked.figures)
    for figure, total in zip(manifest.figures, figures, strict=True):
        if figure.name == WORKERS and total != reports:
            raise SecureRoundError(
                f"what is left without the masks is not the sum of {reports} reports, for it counts {total}: "
                "a worker has not followed the protocol, or the workers were told different things"
            )
        if not figure.may_be(total, reports):
            raise SecureRoundError(f"{reports} reports cannot have the sum that is left of '{figure.name}'")
    if int(np.abs(values).max(initial=0)) > reports * most_of(manifest.value_bits):
        raise SecureRoundError(f"{reports} reports cannot have the sum that is left: a value is out of range")
    return Payload(values, figures)


def average_of(manifest: Manifest, total: Payload) -> SecureAverage:
    """The weighted average that a sum gives.

    Raises:
        SecureRoundError: the reports weigh nothing.
    """
    figures = {f.name: f.decoded(n) for f, n in zip(manifest.figures, total.figures, strict=True)}
    if figures[WEIGHT] <= 0:
        raise SecureRoundError("the reports weigh nothing, so they have no average")
    ends = np.cumsum(manifest.sizes)[:-1]
    parts = np.split(total.values, ends) if manifest.sizes else []
    factor = manifest.most_weight / figures[WEIGHT]
    tensors = (dequantise(part, e) * factor for part, e in zip(parts, manifest.exponents, strict=True))
    return SecureAverage(tuple(tensors), figures)
