"""What a client reports in a secure round: its diff as whole numbers, with what they could not hold kept."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedplan.client.model import SyftModel
from fedplan.client.secure.attending import Remainder
from fedplan.errors import ModelMismatchError, SecureAggregationError
from fedplan.federation import Update
from fedplan.federation.secure import Manifest, Payload, payload_of
from fedplan.federation.secure.cycles import told_figures
from fedplan.federation.tensors import Float64s
from fedplan.plan import from_torch
from fedplan.wire import Summary


@dataclasses.dataclass(frozen=True, slots=True)
class WholeUpdate(Update):
    """An update whose tensors are whole numbers in one vector, which add without rounding.

    Attributes:
        client: whose it is.
        values: of the vector, in the narrowest type that holds them.
        figures: beside it.
    """

    client: int = -1
    values: NDArray[Any] = dataclasses.field(default_factory=lambda: np.zeros(0, np.int16))
    figures: tuple[int, ...] = ()

    @property
    def payload(self) -> Payload:
        """What the client adds to the sum."""
        return Payload(self.values.astype(np.int64), self.figures)


def whole_update(
    manifest: Manifest, client: int, diff: SyftModel, summary: Summary, lost: Sequence[Tensor], key: bytes
) -> tuple[WholeUpdate, list[Tensor]]:
    """A client's diff in a secure round, and what it keeps for its next one.

    Args:
        manifest: of the round.
        client: its number.
        diff: what it trained.
        summary: what it tells beside it.
        lost: what its reports so far could not hold.
        key: 32 bytes for the stochastic rounding.

    Raises:
        SecureAggregationError: the diff or the summary cannot be added up; its worker would report nothing.
    """
    arrays = [from_torch(tensor).array for tensor in diff.changes()]
    if [array.size for array in arrays] != list(manifest.sizes):
        raise ModelMismatchError("the diff has other tensors than the round adds up")
    exact = Remainder([tensor.numpy() for tensor in lost]).added_to(arrays)
    payload, left = payload_of(manifest, exact, told_figures(manifest, summary), key)
    narrow = payload.values.astype(np.int16 if manifest.value_bits <= 16 else np.int32)
    update = WholeUpdate((), summary, client=client, values=narrow, figures=payload.figures)
    return update, [_kept(values) for values in left]


def check_whole(update: object) -> WholeUpdate:
    """The update of a client in a secure round.

    Raises:
        SecureAggregationError: it is another one.
    """
    if not isinstance(update, WholeUpdate):
        raise SecureAggregationError("a secure round adds whole numbers up, and this report holds others")
    return update


def _kept(values: Float64s) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))
