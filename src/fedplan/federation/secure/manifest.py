"""What all workers of a secure round must be told alike: one byte string, whose digest enters all keys."""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Self

from fedplan.errors import SecureAggregationError, SecureMessageError
from fedplan.federation.secure.figures import WEIGHT, WORKERS, Figure
from fedplan.federation.secure.keys import KEY_BYTES
from fedplan.federation.secure.messages import FigureMessage, ManifestMessage, NamedDigest, read, written
from fedplan.federation.secure.parameters import Parameters, Trust, ring_bits
from fedplan.federation.secure.quantisation import MOST_EXPONENT, MOST_VALUE_BITS
from fedplan.federation.secure.ring import MOST_BITS, Ring
from fedplan.federation.tensors import Tensors

MOST_VALUES = 2**31
"""A vector has fewer values."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A secure round.

    Attributes:
        cycle: the cycle's name, which no other cycle of the grid has.
        model: digest of the model's tensors; see `digest_of_tensors`.
        plans: digests of the Plans' bytes, by ``name/variant``.
        client_config: digest of its text.
        roster: digest of the roster.
        parameters: how many workers, neighbours and shares.
        value_bits: of a quantised value: p.
        sizes: values of each tensor in the vector.
        exponents: one step of each tensor is 2^exponent.
        most_weight: no report counts more.
        figures: what is added up beside the vector: `WORKERS`, `WEIGHT`, then others.
    """

    cycle: str
    model: bytes
    plans: Mapping[str, bytes]
    client_config: bytes
    roster: bytes
    parameters: Parameters
    value_bits: int
    sizes: tuple[int, ...]
    exponents: tuple[int, ...]
    most_weight: float
    figures: tuple[Figure, ...]

    def __post_init__(self) -> None:
        fault = self._fault()
        if fault is not None:
            raise SecureAggregationError(f"a secure round cannot be so: {fault}")

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Reads what `serialize` wrote.

        Raises:
            SecureMessageError: it is no manifest, or one that cannot be.
        """
        found = read(ManifestMessage, data, "the manifest")
        try:
            parameters = Parameters(
                found.workers,
                Trust(found.trust),
                found.dropout,
                found.corrupt,
                found.degree,
                found.threshold,
            )
            made = cls(
                found.cycle,
                found.model,
                {plan.name: plan.digest for plan in found.plans},
                found.client_config,
                found.roster,
                parameters,
                found.value_bits,
                tuple(found.sizes),
                tuple(found.exponents),
                found.most_weight,
                tuple(Figure(f.name, f.fraction_bits, f.most) for f in found.figures),
            )
        except (SecureAggregationError, ValueError) as error:
            raise SecureMessageError(f"the manifest is refused: {error}") from None
        if made.serialize() != data:
            raise SecureMessageError("the manifest names a Plan twice, or not in the order of the names")
        return made

    def serialize(self) -> bytes:
        """As it is sent. Equal manifests have equal bytes."""
        given = self.parameters
        return written(
            ManifestMessage(
                cycle=self.cycle,
                model=self.model,
                plans=[NamedDigest(name=n, digest=d) for n, d in sorted(self.plans.items())],
                client_config=self.client_config,
                roster=self.roster,
                workers=given.workers,
                trust=given.trust.value,
                dropout=given.dropout,
                corrupt=given.corrupt,
                degree=given.degree,
                threshold=given.threshold,
                value_bits=self.value_bits,
                sizes=list(self.sizes),
                exponents=list(self.exponents),
                most_weight=self.most_weight,
                figures=[
                    FigureMessage(name=f.name, fraction_bits=f.fraction_bits, most=f.most)
                    for f in self.figures
                ],
            )
        )

    @functools.cached_property
    def digest(self) -> bytes:
        """SHA-256 of its bytes."""
        return hashlib.sha256(self.serialize()).digest()

    @property
    def ring(self) -> Ring:
        """In which the workers' values add without wrapping."""
        return Ring(ring_bits(self.value_bits, self.parameters.workers))

    @property
    def values(self) -> int:
        """How many the vector holds."""
        return sum(self.sizes)

    def _fault(self) -> str | None:
        given = self.parameters
        named = {"model": self.model, "client_config": self.client_config, "roster": self.roster}
        for name, digest in (*named.items(), *self.plans.items()):
            if len(digest) != KEY_BYTES:
                return f"the digest of '{name}' has {len(digest)} bytes, not {KEY_BYTES}"
        if not self.cycle or not self.plans:
            return "it has no cycle or no Plan"
        fault = given.fault()
        if fault is not None:
            return fault
        if not 2 <= self.value_bits <= MOST_VALUE_BITS:
            return f"a value has 2 to {MOST_VALUE_BITS} bits, not {self.value_bits}"
        if ring_bits(self.value_bits, given.workers) > MOST_BITS:
            return f"values of {self.value_bits} bits from {given.workers} workers need over {MOST_BITS} bits"
        if any(size < 0 for size in self.sizes) or self.values >= MOST_VALUES:
            return f"a vector has fewer than {MOST_VALUES} values"
        if len(self.exponents) != len(self.sizes) or any(abs(e) > MOST_EXPONENT for e in self.exponents):
            return f"each tensor has an exponent, from −{MOST_EXPONENT} to {MOST_EXPONENT}"
        return _fault_of_figures(self.figures, self.most_weight, given.workers)


def _fault_of_figures(figures: Sequence[Figure], most_weight: float, workers: int) -> str | None:
    if not 0 < most_weight < math.inf:
        return f"the largest weight is finite and over 0, not {most_weight}"
    names = [figure.name for figure in figures]
    if names[:2] != [WORKERS, WEIGHT] or len(set(names)) < len(names):
        return f"its figures are '{WORKERS}', '{WEIGHT}' and others, each once"
    if figures[0] != Figure(WORKERS, 0, 1.0) or figures[1].most != most_weight:
        return "each report counts as one worker, and with no more than the largest weight"
    return next((fault for figure in figures if (fault := figure.fault(workers))), None)


def digest_of_tensors(tensors: Tensors) -> bytes:
    """What a model's tensors are known by, however they were sent.

    SHA-256 over all of them in their order: length of the dtype's name (one byte), the name, the number of
    dimensions (one byte), each dimension (eight bytes), and the values in row-major order; all little-endian.
    """
    hashed = hashlib.sha256()
    for tensor in tensors:
        name = tensor.dtype.encode()
        hashed.update(bytes([len(name)]) + name + bytes([tensor.array.ndim]))
        for extent in tensor.array.shape:
            hashed.update(extent.to_bytes(8, "little"))
        hashed.update(tensor.array.astype(tensor.array.dtype.newbyteorder("<"), copy=False).tobytes())
    return hashed.digest()


def digest_of_bytes(data: bytes) -> bytes:
    """What a Plan's bytes, or a text's in UTF-8, are known by: their SHA-256."""
    return hashlib.sha256(data).digest()
