"""Data sets: samples that are found by their number."""

import abc
import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

import torch
import torch.utils.data
from torch import Tensor

from fedplan.data.batch import collate
from fedplan.data.tensor import describe, to_tensors
from fedplan.data.transform import Transform
from fedplan.errors import DataError


class Dataset(torch.utils.data.Dataset[Any], abc.ABC):
    """A data set: a subclass says how long it is and what each sample holds.

    It is a data set of torch too: `dataset[i]` and `len(dataset)` work, and it can be iterated.

    Example::

        class Digits(Dataset):
            def get_item(self, index):
                return self.images[index], self.labels[index]

            @property
            def length(self):
                return len(self.labels)
    """

    @abc.abstractmethod
    def get_item(self, index: int) -> Any:
        """The sample at `index`.

        Args:
            index: 0 … `length` − 1.

        Returns:
            A tensor, an array, a number, or a tuple, list or dict of them: what `collate` can batch.
        """

    @property
    @abc.abstractmethod
    def length(self) -> int:
        """Number of samples."""

    def __getitem__(self, index: SupportsIndex) -> Any:
        """The sample at `index`; negative numbers count from the end."""
        at = operator.index(index)
        if not -self.length <= at < self.length:
            raise IndexError(f"sample {at} of a data set of {self.length} samples")
        return self.get_item(at % self.length)

    def __len__(self) -> int:
        return self.length


class TensorDataset(Dataset):
    """A data set made of whole arrays, such as images and labels: sample i is row i of each.

    Attributes:
        tensors: the arrays as tensors; they share the memory of NumPy arrays where torch can share it.
        transform: applied to each sample, or None.
    """

    def __init__(self, *arrays: Any, transform: Transform | None = None) -> None:
        """Puts arrays side by side.

        Args:
            *arrays: tensors, NumPy arrays or nested lists, each of shape (samples, …).
            transform: applied to each sample when it is fetched; its options are one per array.

        Raises:
            DataError: no array, or arrays that do not have the same number of rows.
        """
        self.tensors: tuple[Tensor, ...] = tuple(to_tensors(arrays))
        self.transform = transform
        rows = {tensor.shape[0] if tensor.ndim else None for tensor in self.tensors}
        if len(rows) != 1 or None in rows:
            shapes = "; ".join(describe(tensor) for tensor in self.tensors) or "no array at all"
            raise DataError(
                f"the arrays of a TensorDataset need the same number of rows, one for each sample: {shapes}"
            )

    def get_item(self, index: int) -> tuple[Any, ...]:
        """Row `index` of each array, transformed."""
        rows = tuple(tensor[index] for tensor in self.tensors)
        return rows if self.transform is None else self.transform.apply(*rows)

    def get_batch(self, indices: Sequence[int]) -> list[Tensor]:
        """The batch of these samples; where they are rows as they are, gathered in one operation an array.

        Returns:
            Tensors of shape (len(indices), …), one for each array. In a subclass that makes samples of its
            own, what `collate` makes of them.
        """
        if self._gives_rows:
            return rows_of(self.tensors, indices)
        batch: list[Tensor] = collate([self[index] for index in indices], indices)
        return batch

    @property
    def _gives_rows(self) -> bool:
        """Whether sample i is row i of each array: nothing transforms it, and no subclass says otherwise."""
        kind = type(self)
        own = kind.get_item is not TensorDataset.get_item or kind.__getitem__ is not Dataset.__getitem__
        return self.transform is None and not own

    @property
    def length(self) -> int:
        """Number of samples."""
        return self.tensors[0].shape[0]


def rows_of(tensors: Sequence[Tensor], indices: Sequence[int]) -> list[Tensor]:
    """Some rows of each tensor.

    Returns:
        Tensors of shape (len(indices), …), one for each.
    """
    rows = torch.tensor(indices)
    return [tensor.index_select(0, rows) for tensor in tensors]
