"""The clients of a simulation, by their numbers, and the data of each."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch.utils.data
from torch import Tensor

from fedplan.data import DataLoader
from fedplan.data.integer import as_integer
from fedplan.errors import ConfigError, DataError

_FORMS = (
    "a client is (x, y), a Dataset, a DataLoader, or a tensor or an array without targets; x and y are what "
    "`participate` takes"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Population:
    """The clients.

    Attributes:
        count: how many there are; their numbers begin with 0.
        made: whether the data of a client is made when it is needed.
        find: number of a client → what the user gave for it.
    """

    count: int
    made: bool
    find: Callable[[int], Any]

    def data(self, number: int) -> tuple[Any, Any]:
        """The data and the targets of a client; None for the targets where a loader or a data set has them.

        Raises:
            DataError: it is nothing that can be trained on.
        """
        found = self.find(number)
        if isinstance(found, tuple | list):
            if not 1 <= len(found) <= 2:
                raise DataError(f"this is a {type(found).__name__} of {len(found)}: {_FORMS}")
            return found[0], found[1] if len(found) == 2 else None
        is_array = isinstance(found, Tensor | np.ndarray | Mapping)
        is_loader = isinstance(found, DataLoader | torch.utils.data.DataLoader)
        if not (is_array or is_loader or is_dataset(found)):
            raise DataError(f"this is a {type(found).__name__}: {_FORMS}")
        return found, None


def is_dataset(value: object) -> bool:
    """Whether a loader can be made of something: samples that are found by their number."""
    if isinstance(value, Tensor | np.ndarray | Mapping | tuple | list | str):
        return False
    return hasattr(value, "__getitem__") and hasattr(value, "__len__")


def population_of(clients: Any, count: Any) -> Population:
    """The population that a user describes.

    Args:
        clients: a sequence with one entry a client, or a callable: number of a client → its entry.
        count: how many clients there are; needed with a callable.

    Raises:
        ConfigError: they are no clients, or their number is missing or wrong.
    """
    if callable(clients) and not isinstance(clients, Sequence):
        number = as_integer(count)
        if number is None or number < 1:
            raise ConfigError(
                f"the data of each client comes from a function, so their number has to be told: pass "
                f"population=1000 for the clients 0 to 999, not {count!r}"
            )
        return Population(number, True, clients)
    if isinstance(clients, Tensor | np.ndarray | Mapping | str | torch.utils.data.Dataset) or not (
        hasattr(clients, "__getitem__") and hasattr(clients, "__len__")
    ):
        raise ConfigError(
            f"clients is a {type(clients).__name__}; a list with one entry a client is needed, such as "
            "[(x0, y0), (x1, y1), …], or a function from the number of a client to its entry. "
            "fedplan.partition_iid and its kin split one data set over clients"
        )
    if len(clients) == 0:
        raise ConfigError("clients is empty: there is nobody to train")
    if count is not None and count != len(clients):
        raise ConfigError(
            f"population={count} was told, and clients has {len(clients)} entries: leave population out"
        )
    return Population(len(clients), False, clients.__getitem__)
