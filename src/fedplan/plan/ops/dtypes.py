"""The dtypes that a Plan's values may have."""

from collections.abc import Mapping

import torch

DTYPES: Mapping[str, torch.dtype] = {
    name: getattr(torch, name)
    for name in (
        "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "bool", "bfloat16"
    )
}  # fmt: skip
"""By the names that travel."""


def dtype_name(dtype: torch.dtype) -> str:
    """The name under which a dtype travels, such as ``float32``."""
    return str(dtype).removeprefix("torch.")
