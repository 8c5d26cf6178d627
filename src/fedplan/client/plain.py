"""Configurations as users write them, as the plain values that JSON has."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from fedplan.errors import ConfigError


def plain_config(config: Any, name: str) -> dict[str, Any]:
    """A configuration whose numbers are Python's.

    Args:
        config: numbers, texts, lists and objects by key. NumPy's scalars and tensors or arrays of one element
            become the numbers that they hold (`numpy.float32(0.1)` is 0.10000000149…), larger ones lists.
        name: what it is, for messages.

    Returns:
        A new dict.

    Raises:
        ConfigError: it is no mapping, or holds something that has no value, such as a tensor on the device
            "meta". What JSON cannot hold otherwise, the check of its keys refuses.
    """
    if not isinstance(config, Mapping):
        raise ConfigError(
            f"{name}: a dict is needed, such as {{'name': 'mnist', 'version': '1.0'}}; this is a "
            f"{type(config).__name__}"
        )
    return {key: _plain(value, f"{name}: '{key}'") for key, value in config.items()}


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item, f"{where}.'{key}'") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, where) for item in value]
    if isinstance(value, np.floating):
        return float(value)  # the item of a long double is a long double
    if not isinstance(value, Tensor | np.ndarray | np.generic):
        return value
    try:
        single = (
            isinstance(value, np.generic) or (value.numel() if isinstance(value, Tensor) else value.size) == 1
        )
        return value.item() if single else value.tolist()
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        raise ConfigError(f"{where} cannot be read: {' '.join(str(error).split())}") from None
