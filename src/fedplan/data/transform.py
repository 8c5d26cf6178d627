"""Transforms: what happens to each item of a sample between the data set and the batch.

A sample has items, such as an image and a label. A transform is given one dict of options for each item,
or None for an item that it leaves alone::

    prepare = Compose([
        ToTensor({"shape": [-1], "dtype": "float32"}, None),
        Normalize({"mean": [33.3], "std": [78.6]}),          # the image only
        OneHot(None, {"depth": 10}),                         # the label only
    ])
    image, label = prepare.apply(image, label)
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fedplan.data.tensor import describe, to_dtype, to_tensor
from fedplan.errors import DataError


class Transform:
    """Base of the transforms; a subclass defines `apply_to_item` with its options as keyword arguments.

    Attributes:
        options: for each item its options, or None where the item is left alone.
    """

    def __init__(self, *options: Mapping[str, Any] | None) -> None:
        """Keeps the options.

        Args:
            *options: for each item of a sample a dict of options (empty for the defaults), or None.

        Raises:
            DataError: an option is missing, or not one of this transform.
        """
        for option in options:
            if option is not None:
                self._check(option)
        self.options = options

    def apply(self, *items: Any) -> tuple[Any, ...]:
        """The sample with its items transformed.

        Args:
            *items: the items of one sample; those beyond the last option are left alone.

        Raises:
            DataError: there are options for more items than came, or an item does not fit.
        """
        if len(items) < len(self.options):
            raise DataError(
                f"{type(self).__name__} has options for {len(self.options)} items, "
                f"but the sample has {len(items)}"
            )
        left_alone = (None,) * (len(items) - len(self.options))
        return tuple(
            item if option is None else self.apply_to_item(item, **option)
            for item, option in zip(items, self.options + left_alone, strict=True)
        )

    # The signature stands for "any options": a subclass names its own.
    def apply_to_item(self, item: Any, *args: Any, **options: Any) -> Any:
        """One item transformed; the base class changes nothing."""
        return item

    def _check(self, option: Mapping[str, Any]) -> None:
        signature = inspect.signature(self.apply_to_item)
        try:
            signature.bind(None, **option)
        except TypeError as error:
            known = ", ".join(list(signature.parameters)[1:])
            raise DataError(f"{type(self).__name__}: {error}; its options are {known}") from None


class Compose(Transform):
    """Several transforms, one after the other.

    Attributes:
        transforms: in the order in which they are applied.
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        super().__init__()
        self.transforms = tuple(transforms)

    def apply(self, *items: Any) -> tuple[Any, ...]:
        """The sample after all transforms."""
        for transform in self.transforms:
            items = transform.apply(*items)
        return items


class ToTensor(Transform):
    """Makes a tensor of a shape and a dtype; also reshapes, flattens and converts tensors."""

    def apply_to_item(
        self, item: Any, *, shape: Sequence[int] | None = None, dtype: torch.dtype | str | None = None
    ) -> Tensor:
        """The item as a tensor.

        Args:
            item: a tensor, an array, a number, or nested lists of numbers.
            shape: the new shape; one extent may be −1, so `[-1]` flattens. By default the item's own.
            dtype: the new dtype or its name. By default the item's own; float32 for Python floats.

        Raises:
            DataError: the item is not numeric, or has not the number of elements that the shape needs.
        """
        tensor = to_tensor(item)
        if dtype is not None:
            tensor = tensor.to(to_dtype(dtype))
        if shape is None:
            return tensor
        try:
            return tensor.reshape(tuple(shape))
        except RuntimeError:
            raise DataError(
                f"an item of {describe(tensor)} cannot take the shape {list(shape)}: "
                f"it has {tensor.numel()} elements"
            ) from None


class Normalize(Transform):
    """Subtracts a mean and divides by a standard deviation, channel by channel."""

    def apply_to_item(self, item: Any, *, mean: Sequence[float], std: Sequence[float]) -> Tensor:
        """(item − mean) / std, as float32 when the item holds integers.

        Args:
            item: shape (channels, …), or any shape when `mean` has one entry.
            mean: one number for each channel, or a single one for all.
            std: as many numbers, none of them 0.

        Raises:
            DataError: the lengths do not fit each other or the item, or a standard deviation is 0.
        """
        tensor = to_tensor(item)
        if not tensor.is_floating_point():
            tensor = tensor.float()
        if len(mean) != len(std) or not mean or 0 in std:
            raise DataError(
                f"Normalize needs as many std as mean, none of them 0; got mean {list(mean)}, std {list(std)}"
            )
        if len(mean) == 1:
            return (tensor - mean[0]) / std[0]
        if tensor.ndim == 0 or tensor.shape[0] != len(mean):
            raise DataError(
                f"Normalize has {len(mean)} channels, so the item's first dimension must be {len(mean)}; "
                f"it has {describe(tensor)}"
            )
        shape = (-1, *[1] * (tensor.ndim - 1))
        center, scale = (tensor.new_tensor(list(each)).reshape(shape) for each in (mean, std))
        return (tensor - center) / scale


class OneHot(Transform):
    """Turns labels into rows with a single 1."""

    def apply_to_item(
        self, item: Any, *, depth: int, squeeze: bool = False, dtype: torch.dtype | str = "float32"
    ) -> Tensor:
        """Shape (…) → (…, depth).

        Args:
            item: labels 0 … depth − 1, of any shape.
            depth: number of classes.
            squeeze: drops dimensions of extent 1 from the result, such as that of labels of shape (1,).
            dtype: dtype of the result, or its name.

        Raises:
            DataError: a label is not an integer between 0 and depth − 1.
        """
        labels = to_tensor(item)
        if labels.is_floating_point() or labels.is_complex():
            raise DataError(f"OneHot needs integer labels; the item has {describe(labels)}")
        labels = labels.long()
        if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < depth:
            raise DataError(
                f"OneHot of depth {depth} needs labels from 0 to {depth - 1}; "
                f"the item's run from {int(labels.min())} to {int(labels.max())}"
            )
        encoded = F.one_hot(labels, depth).to(to_dtype(dtype))
        return encoded.squeeze() if squeeze else encoded
