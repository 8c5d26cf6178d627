"""Pictures, series and volumes of another size, with their gradients, in tfjs."""

import functools

import pytest
import torch
from torch.nn import functional as F

from tests.plan.variants.tfjs.agreement import agrees
from tests.plan.variants.tfjs.test_indexing import gradients

SERIES, PICTURES, VOLUMES = torch.zeros(2, 3, 6), torch.zeros(2, 3, 6, 5), torch.zeros(2, 1, 3, 4, 2)

RESIZED = {
    f"{mode} {name}": (functools.partial(F.interpolate, mode=mode, **options), value)
    for mode, value in (
        ("nearest", SERIES),
        ("nearest", PICTURES),
        ("nearest", VOLUMES),
        ("nearest-exact", PICTURES),
        ("linear", SERIES),
        ("bilinear", PICTURES),
        ("bicubic", PICTURES),
    )
    for name, options in (
        (f"{value.dim() - 2}d larger", {"size": (9, 10, 5)[: value.dim() - 2]}),
        (f"{value.dim() - 2}d twice", {"scale_factor": 2}),
        (f"{value.dim() - 2}d smaller", {"size": (2, 2, 1)[: value.dim() - 2]}),
        *(
            [(f"{value.dim() - 2}d with aligned corners", {"scale_factor": 2, "align_corners": True})]
            if "linear" in mode or mode == "bicubic"
            else []
        ),
    )
}


@pytest.mark.some(12)
@pytest.mark.parametrize("name", RESIZED)
def test_another_size_and_its_gradient(name: str) -> None:
    function, example = RESIZED[name]
    agrees(gradients(function), example)
