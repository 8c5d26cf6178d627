"""Where a trainer's batches come from: whole tensors, a fedplan DataLoader, or one of torch.

Each source can begin an epoch, and can go back into the middle of one, in another process too, such that
the very same batches follow. That is what makes a resumed training equal to one that was never stopped.
"""

import base64
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
import torch.utils.data
from torch import Tensor

from fedplan.client.batch_layout import Path, locate_in_batch
from fedplan.data import DataLoader
from fedplan.data.tensor import to_tensor
from fedplan.errors import CheckpointError, ConfigError, DataError
from fedplan.plan import PlanInput, PlanInputSpec

_log = logging.getLogger("fedplan.client")

LoaderState = Mapping[str, Any]
"""What a source needs to go back into an epoch, as JSON."""


class BatchSource(Protocol):
    """Batches, epoch after epoch."""

    def open(self) -> Iterator[Any]:
        """Begins the next epoch."""

    def reopen(self, state: LoaderState | None, start: int) -> Iterator[Any]:
        """Goes back into the epoch that `state` was taken in, to the batch numbered `start`.

        Without a state (a browser's checkpoint has none) it begins an epoch, from that batch on.
        """

    def state(self) -> LoaderState | None:
        """What `reopen` needs to come back to the epoch that was opened; None when it needs nothing."""

    def count(self) -> int | None:
        """Batches in an epoch; None when that is not known."""

    def locate(self, specs: Sequence[PlanInputSpec], batch: Any) -> list[Path]:
        """Where the data and targets that these specs mean stand in a batch.

        Raises:
            DataError: the batch does not hold one of them.
        """


Wants = Sequence[tuple[PlanInputSpec, PlanInput]]
"""What a Plan takes of each batch: for data and targets, the spec and the declared input."""


def open_batches(data: Any, target: Any, batch_size: int | None, wants: Wants = ()) -> BatchSource:
    """The source for what the user gave as data.

    Args:
        data: a tensor or NumPy array, a list or dict of them, a fedplan or torch DataLoader.
        target: the same, one row for each row of the data; None with a DataLoader.
        batch_size: samples in a batch; not needed with a DataLoader.
        wants: what the Plan takes of the batches.

    Raises:
        DataError: they cannot be used together.
        ConfigError: there is no batch size.
    """
    if isinstance(data, DataLoader | torch.utils.data.DataLoader):
        if target is not None:
            raise DataError("a DataLoader's batches hold the targets: leave `target` out")
        return LoaderBatches(data) if isinstance(data, DataLoader) else TorchLoaderBatches(data)
    if batch_size is None:
        raise ConfigError(
            "there is no batch size: pass batch_size=…, or a DataLoader, or have the model owner put "
            "batch_size into the client_config"
        )
    return TensorBatches(data, target, batch_size, wants)


class TensorBatches:
    """Batches cut from whole tensors, in order, the same in each epoch.

    Tensors get the dtype that the Plan declares where no value is lost by it (labels of uint8 become int64,
    and float64 becomes float32).

    Differs from the reference: a last, smaller batch is used and not dropped, unless the Plan takes batches
    of one size only; then the log says how many samples are left out.
    """

    def __init__(self, data: Any, target: Any, batch_size: int, wants: Wants = ()) -> None:
        """See `open_batches`."""
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigError(f"the batch size must be a positive integer, not {batch_size!r}")
        self._batch_size = batch_size
        self._columns = {
            PlanInputSpec.TYPE_DATA: _columns(data, "data"),
            PlanInputSpec.TYPE_TARGET: {} if target is None else _columns(target, "target"),
        }
        self._samples = self._count_samples()
        for spec, declared in wants:
            self._convert(spec, declared)
            self._fit_size(declared)
        if self._samples == 0:
            raise DataError(f"the samples make no batch of {batch_size}: there is nothing to train on")

    def _count_samples(self) -> int:
        counts = {
            f"{kind}[{key!r}]": len(column)
            for kind, columns in self._columns.items()
            for key, column in columns.items()
        }
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{count} in {name}" for name, count in counts.items())
            raise DataError(f"data and target differ in the number of samples: {listed}")
        return next(iter(counts.values()))

    def _convert(self, spec: PlanInputSpec, declared: PlanInput) -> None:
        """Floats stay floats where integers are needed: the Plan will refuse them, rather than lose them."""
        columns, key = self._columns[spec.type], self._key(spec)
        dtype = declared.dtype and getattr(torch, declared.dtype)
        if dtype and torch.can_cast(columns[key].dtype, dtype):
            columns[key] = columns[key].to(dtype)

    def _fit_size(self, declared: PlanInput) -> None:
        left = self._samples % self._batch_size
        if left and declared.shape and declared.shape[0] == self._batch_size:
            _log.warning(
                "the Plan takes batches of %d samples only: the last %d of %d are left out",
                self._batch_size, left, self._samples,
            )  # fmt: skip
            self._samples -= left

    def _key(self, spec: PlanInputSpec) -> int | str:
        columns = self._columns[spec.type]
        key = spec.name if spec.name in columns else spec.index or 0
        if key not in columns:
            held = ", ".join(map(repr, columns)) or "nothing"
            raise DataError(f"the Plan needs {spec.type}[{spec.name or key!r}]; `{spec.type}` holds: {held}")
        return key

    def locate(self, specs: Sequence[PlanInputSpec], batch: Any) -> list[Path]:
        """See `BatchSource.locate`; a batch is a flat tuple of all columns."""
        order = [(kind, key) for kind, columns in self._columns.items() for key in columns]
        return [(order.index((spec.type, self._key(spec))),) for spec in specs]

    def open(self) -> Iterator[Any]:
        """See `BatchSource.open`."""
        return self.reopen(None, 0)

    def reopen(self, state: LoaderState | None, start: int) -> Iterator[Any]:
        """See `BatchSource.reopen`."""
        first = min(start * self._batch_size, self._samples)
        rest = [
            torch.split(column[first : self._samples], self._batch_size)
            for columns in self._columns.values()
            for column in columns.values()
        ]
        return iter(zip(*rest, strict=True)) if first < self._samples else iter(())

    def state(self) -> None:
        """The order never changes: nothing to keep."""

    def count(self) -> int:
        """See `BatchSource.count`."""
        return -(-self._samples // self._batch_size)


def _columns(value: Any, name: str) -> dict[int | str, Tensor]:
    """One or several arrays by index or name."""
    columns: dict[int | str, Tensor]
    if isinstance(value, Mapping):
        columns = {str(key): _array(item, f"{name}[{key!r}]") for key, item in value.items()}
    elif isinstance(value, list | tuple):
        columns = {index: _array(item, f"{name}[{index}]") for index, item in enumerate(value)}
    else:
        columns = {0: _array(value, name)}
    if not columns:
        raise DataError(f"`{name}` is empty")
    return columns


def _array(value: Any, name: str) -> Tensor:
    if not isinstance(value, Tensor | np.ndarray) or value.ndim == 0:
        raise DataError(
            f"`{name}` is a {type(value).__name__}; what can be trained on are tensors and NumPy arrays with "
            "one row a sample, lists and dicts of them, and DataLoaders"
        )
    return to_tensor(value)


class LoaderBatches:
    """Batches of a fedplan DataLoader, which can go to any batch of any epoch by itself."""

    def __init__(self, loader: DataLoader) -> None:
        """Batches of this loader."""
        self._loader = loader

    def open(self) -> Iterator[Any]:
        """See `BatchSource.open`."""
        return iter(self._loader)

    def reopen(self, state: LoaderState | None, start: int) -> Iterator[Any]:
        """See `BatchSource.reopen`."""
        if state is None:
            self._loader.restore({**self._loader.state(), "epoch": self._loader.epoch + 1})
        else:
            self._loader.restore(state)
        return self._loader.batches(min(start, self._loader.length))

    def state(self) -> LoaderState:
        """See `BatchSource.state`."""
        return self._loader.state()

    def count(self) -> int:
        """See `BatchSource.count`."""
        return self._loader.length

    def locate(self, specs: Sequence[PlanInputSpec], batch: Any) -> list[Path]:
        """See `BatchSource.locate`."""
        return locate_in_batch(specs, batch)


class TorchLoaderBatches:
    """Batches of a torch DataLoader.

    Its order comes from random generators: torch's global one, or those that the loader or its samplers were
    given. Their states are noted when an epoch begins. To go back, they are set again, torch's global one
    included, and the batches before the wanted one are fetched once more and dropped: so random
    transforms that use torch's generator repeat too. Those that use other generators do not.
    """

    def __init__(self, loader: "torch.utils.data.DataLoader[Any]") -> None:
        """Batches of this loader."""
        self._loader = loader
        self._noted: list[Tensor] = []

    def open(self) -> Iterator[Any]:
        """See `BatchSource.open`."""
        self._noted = [torch.get_rng_state(), *(g.get_state() for g in self._generators())]
        return iter(self._loader)

    def reopen(self, state: LoaderState | None, start: int) -> Iterator[Any]:
        """See `BatchSource.reopen`."""
        if state is not None:
            self._restore(state)
        batches = self.open()
        for _ in itertools.islice(batches, start):
            pass
        return batches

    def _restore(self, state: LoaderState) -> None:
        generators = self._generators()
        setters: list[Callable[[Tensor], object]] = [torch.set_rng_state, *(g.set_state for g in generators)]
        try:
            noted = [base64.b64decode(text, validate=True) for text in state["generatorsBase64"]]
            for setter, content in zip(setters, noted, strict=True):
                setter(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                "the checkpoint does not hold the random states of this torch DataLoader "
                f"({' '.join(str(error).split())}): resume with a loader that is made as it was before"
            ) from None

    def _generators(self) -> list[torch.Generator]:
        batch_sampler = self._loader.batch_sampler
        holders = (self._loader, self._loader.sampler, batch_sampler, getattr(batch_sampler, "sampler", None))
        found = (getattr(holder, "generator", None) for holder in holders)
        return list(dict.fromkeys(g for g in found if isinstance(g, torch.Generator)))

    def state(self) -> LoaderState:
        """See `BatchSource.state`."""
        return {"generatorsBase64": [base64.b64encode(s.numpy().tobytes()).decode() for s in self._noted]}

    def count(self) -> int | None:
        """See `BatchSource.count`."""
        try:
            return len(self._loader)
        except TypeError:  # a loader of an iterable data set
            return None

    def locate(self, specs: Sequence[PlanInputSpec], batch: Any) -> list[Path]:
        """See `BatchSource.locate`."""
        return locate_in_batch(specs, batch)
