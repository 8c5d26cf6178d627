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

from fedplan.client.counts import positive_integer
from fedplan.client.training.batch_layout import Path, locate_in_batch
from fedplan.data import DataLoader
from fedplan.data.tensor import to_tensor
from fedplan.errors import CheckpointError, ConfigError, DataError
from fedplan.plan import PlanInput, PlanInputSpec

_log = logging.getLogger("fedplan.client")

LoaderState = Mapping[str, Any]
"""What a source needs to go back into an epoch, as JSON."""


class Locator(Protocol):
    """Knows the form of batches."""

    def locate(self, specs: Sequence[PlanInputSpec], batch: Any) -> list[Path]:
        """Where the data and targets that these specs mean stand in a batch.

        Raises:
            DataError: the batch does not hold one of them.
        """


class BatchSource(Locator, Protocol):
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


Wants = Sequence[tuple[PlanInputSpec, PlanInput]]
"""What a Plan takes of each batch: for data and targets, the spec and the declared input."""

Refusal = Callable[[int], str | None]
"""Why a Plan cannot run on a batch of so many samples, although it runs on more; None when it can."""


def check_data(data: Any, target: Any = None) -> None:
    """Refuses what no Plan could train on, before a worker takes a place in a cycle with it.

    Args:
        data: see `open_batches`.
        target: see `open_batches`.

    Raises:
        DataError: there is nothing to train on, or data and target cannot be used together.
    """
    loader = _open_loader(data, target)
    if loader is None:
        _count_samples(_columns(data, target))


def open_batches(
    data: Any, target: Any, batch_size: int | None, wants: Wants = (), refusal: Refusal = lambda _: None
) -> BatchSource:
    """The source for what the user gave as data.

    Args:
        data: a tensor or NumPy array, a list or dict of them, a fedplan or torch DataLoader.
        target: the same, one row for each row of the data; None with a DataLoader.
        batch_size: samples in a batch; not needed with a DataLoader.
        wants: what the Plan takes of the batches.
        refusal: what the Plan says to a batch of one sample.

    Raises:
        DataError: they cannot be used together, or there is nothing to train on.
        ConfigError: there is no batch size.
    """
    loader = _open_loader(data, target)
    if loader is not None:
        return loader
    if batch_size is None:
        raise ConfigError(
            "there is no batch size: pass batch_size=…, or a DataLoader, or have the model owner put "
            "batch_size into the client_config"
        )
    return TensorBatches(data, target, batch_size, wants, refusal)


def is_loader(data: Any) -> bool:
    """Whether data is batched already."""
    return isinstance(data, DataLoader | torch.utils.data.DataLoader)


def _open_loader(data: Any, target: Any) -> BatchSource | None:
    """The source for a DataLoader; None for other data."""
    if not is_loader(data):
        return None
    if target is not None:
        raise DataError("a DataLoader's batches hold the targets: leave `target` out")
    source = LoaderBatches(data) if isinstance(data, DataLoader) else TorchLoaderBatches(data)
    if source.count() == 0:
        raise DataError(
            f"the DataLoader makes no batch (batch_size={data.batch_size}, drop_last={data.drop_last}): "
            "there is nothing to train on"
        )
    return source


class TensorBatches:
    """Batches cut from whole tensors, in order, the same in each epoch.

    Tensors get the dtype that the Plan declares where no value is lost by it (labels of uint8 become int64,
    and float64 becomes float32).

    Differs from the reference: a last, smaller batch is used and not dropped, unless the Plan takes batches
    of one size only, or the batch is a single sample and the Plan needs several (batch norm in training mode
    does); then the log says what is left out.
    """

    def __init__(
        self,
        data: Any,
        target: Any,
        batch_size: int,
        wants: Wants = (),
        refusal: Refusal = lambda _: None,
    ) -> None:
        """See `open_batches`."""
        self.batch_size = positive_integer(batch_size, "the batch size")
        """Samples in each batch but the last one."""
        columns = _columns(data, target)
        self._samples = _count_samples(columns)
        self._columns = {
            kind: {key: to_tensor(array) for key, array in arrays.items()} for kind, arrays in columns.items()
        }
        for spec, declared in wants:
            self._convert(spec, declared)
            self._fit_size(declared)
        self._check_all_taken(wants)
        if self._samples % self.batch_size == 1:
            self._leave_single_out(refusal(1))
        if self._samples == 0:
            raise DataError(f"the samples make no batch of {batch_size}: there is nothing to train on")

    def _check_all_taken(self, wants: Wants) -> None:
        """Refuses tensors of a list of which the Plan takes others only: they would be trained without."""
        for kind in dict.fromkeys(spec.type for spec, _ in wants):
            taken = {self._key(spec) for spec, _ in wants if spec.type == kind}
            left = [key for key in self._columns[kind] if isinstance(key, int) and key not in taken]
            if left:
                raise DataError(
                    f"`{kind}` holds {len(self._columns[kind])} tensors, and the Plan does not take "
                    f"{', '.join(f'{kind}[{key}]' for key in left)}: leave these out"
                )

    def _leave_single_out(self, reason: str | None) -> None:
        """Leaves a last batch of one sample out, if there is a reason to."""
        if reason is None:
            return
        if self._samples == 1:
            raise DataError(f"there is one sample, and the Plan cannot be trained on a single one: {reason}")
        _log.warning(
            "the last of %d samples would be a batch of its own and is left out: %s", self._samples, reason
        )
        self._samples -= 1

    def _convert(self, spec: PlanInputSpec, declared: PlanInput) -> None:
        """Floats stay floats where integers are needed: the Plan will refuse them, rather than lose them."""
        columns, key = self._columns[spec.type], self._key(spec)
        dtype = declared.dtype and getattr(torch, declared.dtype)
        if dtype and columns[key].dtype != dtype and torch.can_cast(columns[key].dtype, dtype):
            columns[key] = columns[key].to(dtype)

    def _fit_size(self, declared: PlanInput) -> None:
        left = self._samples % self.batch_size
        if left and declared.shape and declared.shape[0] == self.batch_size:
            _log.warning(
                "the Plan takes batches of %d samples only: the last %d of %d are left out",
                self.batch_size, left, self._samples,
            )  # fmt: skip
            self._samples -= left

    def _key(self, spec: PlanInputSpec) -> int | str:
        columns = self._columns[spec.type]
        key = spec.name if spec.name in columns else spec.index or 0
        if key not in columns:
            held = ", ".join(map(repr, columns)) or "nothing"
            raise DataError(f"the Plan needs {spec.type}[{spec.name or key!r}]; `{spec.type}` holds: {held}")
        return key

    def samples(self, specs: Sequence[PlanInputSpec]) -> list[Tensor]:
        """The data and targets that these specs mean, of all samples that make batches, in their order."""
        return [self._columns[spec.type][self._key(spec)][: self._samples] for spec in specs]

    def locate(self, specs: Sequence[PlanInputSpec], batch: Any) -> list[Path]:
        """See `BatchSource.locate`; a batch is a flat tuple of all columns."""
        order = [(kind, key) for kind, columns in self._columns.items() for key in columns]
        return [(order.index((spec.type, self._key(spec))),) for spec in specs]

    def open(self) -> Iterator[Any]:
        """See `BatchSource.open`."""
        return self.reopen(None, 0)

    def reopen(self, state: LoaderState | None, start: int) -> Iterator[Any]:
        """See `BatchSource.reopen`."""
        first = min(start * self.batch_size, self._samples)
        rest = [
            torch.split(column[first : self._samples], self.batch_size)
            for columns in self._columns.values()
            for column in columns.values()
        ]
        return iter(zip(*rest, strict=True)) if first < self._samples else iter(())

    def state(self) -> None:
        """The order never changes: nothing to keep."""

    def count(self) -> int:
        """See `BatchSource.count`."""
        return -(-self._samples // self.batch_size)


Array = Any
"""A tensor or a NumPy array, with one row a sample."""


def _columns(data: Any, target: Any) -> dict[str, dict[int | str, Array]]:
    """The arrays of data and target, as they are."""
    return {
        PlanInputSpec.TYPE_DATA: _arrays(data, "data"),
        PlanInputSpec.TYPE_TARGET: {} if target is None else _arrays(target, "target"),
    }


def _count_samples(columns: Mapping[str, Mapping[int | str, Array]]) -> int:
    named = [(kind, key, array) for kind, arrays in columns.items() for key, array in arrays.items()]
    count: int = named[0][2].shape[0]
    if any(array.shape[0] != count for _, _, array in named):
        listed = ", ".join(f"{array.shape[0]} in {kind}[{key!r}]" for kind, key, array in named)
        raise DataError(f"data and target differ in the number of samples: {listed}")
    if count == 0:
        raise DataError("data and target hold no sample: there is nothing to train on")
    return count


def _arrays(value: Any, name: str) -> dict[int | str, Array]:
    """One or several arrays by index or name."""
    arrays: dict[int | str, Array]
    if isinstance(value, Mapping):
        arrays = {str(key): _array(item, f"{name}[{key!r}]") for key, item in value.items()}
    elif isinstance(value, list | tuple):
        arrays = {index: _array(item, f"{name}[{index}]") for index, item in enumerate(value)}
    else:
        arrays = {0: _array(value, name)}
    if not arrays:
        raise DataError(f"`{name}` is empty")
    return arrays


def _array(value: Any, name: str) -> Array:
    if not isinstance(value, Tensor | np.ndarray) or value.ndim == 0:
        raise DataError(
            f"`{name}` is a {type(value).__name__}; what can be trained on are tensors and NumPy arrays with "
            "one row a sample, lists and dicts of them, and DataLoaders"
        )
    return value


def _check_start(start: int, batches: int) -> None:
    """Raises DataError when an epoch that is gone on with is shorter than what was trained of it."""
    if start > batches:
        raise DataError(
            f"the training goes on behind batch {start} of an epoch, and the DataLoader makes {batches} of "
            "them: resume with a loader of the same data. One that can be gone through only once is used up"
        )


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
            _check_start(start, self._loader.length)
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
        self._noted = [torch.get_rng_state(), *(g.get_state() for g in generators_of(self._loader))]
        return iter(self._loader)

    def reopen(self, state: LoaderState | None, start: int) -> Iterator[Any]:
        """See `BatchSource.reopen`."""
        if state is not None:
            self._restore(state)
        batches = self.open()
        skipped = sum(1 for _ in itertools.islice(batches, start))
        if state is not None:
            _check_start(start, skipped)
        return batches

    def _restore(self, state: LoaderState) -> None:
        generators = generators_of(self._loader)
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


def generators_of(loader: "torch.utils.data.DataLoader[Any]") -> list[torch.Generator]:
    """The random generators that a torch DataLoader or its samplers were given."""
    batch_sampler = loader.batch_sampler
    holders = (loader, loader.sampler, batch_sampler, getattr(batch_sampler, "sampler", None))
    found = (getattr(holder, "generator", None) for holder in holders)
    return list(dict.fromkeys(g for g in found if isinstance(g, torch.Generator)))
