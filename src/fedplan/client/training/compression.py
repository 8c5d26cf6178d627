"""Reports in fewer bytes, without losing what did not fit in: it goes into the next report."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fedplan.client.model import SyftModel
from fedplan.errors import ConfigError
from fedplan.plan import from_torch, to_torch
from fedplan.wire.compression import FORMATS, FORMATS_KEY, TOP_FRACTION, compress, decompress


class DiffCompressor:
    """Writes diffs in a smaller form, and keeps what each lost for the next one.

    That is error feedback (Seide et al. 2014, "1-bit stochastic gradient descent"; Stich et al. 2018,
    "Sparsified SGD with memory"): without it, changes that are too small to be sent would never be.

    Keep one compressor for all cycles of a model. A diff counts as sent when `sent` is called::

        data = compressor.compress(job.model.diff(trained))
        await job.report(data)
        compressor.sent()

    Attributes:
        format: one of ``float16``, ``int8``, ``topk``.
        kept: what the diffs that were sent have lost so far, a tensor for each of a diff's; nothing at first.
    """

    def __init__(self, format: str, *, fraction: float = TOP_FRACTION, kept: Sequence[Tensor] = ()) -> None:
        """A compressor.

        Args:
            format: ``float16`` (half of the bytes), ``int8`` (a quarter) or ``topk`` (the largest changes).
            fraction: for ``topk``, the share of elements that is sent; 0.01 by default.
            kept: what an earlier compressor has kept, to go on with.

        Raises:
            ConfigError: there is no such format, or the fraction is not in (0, 1].
        """
        if format not in FORMATS:
            raise ConfigError(f"there is no report format '{format}'; there are {', '.join(FORMATS)}")
        if not 0 < fraction <= 1:
            raise ConfigError(f"the fraction of elements that is sent is {fraction}; it must be in (0, 1]")
        self.format = format
        self._fraction = fraction
        self.kept = list(kept)
        self._next: list[Tensor] = []

    def compress(self, diff: SyftModel, exact: Collection[int] = ()) -> bytes:
        """A diff, with what earlier ones lost, as the bytes that `Job.report` takes.

        Args:
            diff: original − trained, of the same model each time.
            exact: tensors of the model that are sent as they are, by their places: running statistics, of
                which a variance could become negative where it is rounded.

        Raises:
            ModelMismatchError: see `SyftModel.changes`.
        """
        changes = diff.changes()
        if [kept.shape for kept in self.kept] == [change.shape for change in changes]:
            changes = [change + kept for change, kept in zip(changes, self.kept, strict=True)]
        places = range(len(changes)) if diff.changing is None else diff.changing
        whole = [number for number, place in enumerate(places) if place in exact]
        state = compress([from_torch(t) for t in changes], self.format, self._fraction, diff.changing, whole)
        arrived = decompress(state, [tuple(change.shape) for change in changes], [self.format])
        lost = [change - to_torch(part) for change, part in zip(changes, arrived, strict=True)]
        self._next = [torch.nan_to_num(part, 0.0, 0.0, 0.0) for part in lost]  # an exploded diff is no debt
        return state.serialize()

    def sent(self) -> None:
        """The last diff has been reported: what it lost goes into the next."""
        self.kept = self._next


def negotiate(client_config: Mapping[str, Any], wanted: str | None) -> str | None:
    """In what a worker reports: what it wants, if the model takes that.

    Args:
        client_config: what the grid told.
        wanted: a format, ``float32``, or None for what the model's owner prefers.

    Returns:
        A format, or None for float32.

    Raises:
        ConfigError: the model does not take what is wanted.
    """
    offered = client_config.get(FORMATS_KEY)
    taken = [format for format in offered if format in FORMATS] if isinstance(offered, list) else []
    if wanted is None:
        return taken[0] if taken else None
    if wanted == "float32":
        return None
    if wanted not in taken:
        raise ConfigError(
            f"this model does not take diffs as {wanted}; it takes {', '.join(['float32', *taken])}. Leave "
            "report_format out for what its owner prefers."
        )
    return wanted
