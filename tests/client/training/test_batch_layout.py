from typing import Any

import numpy as np
import pytest
import torch

from fedplan.client.training.batch_layout import Path, locate_in_batch, take
from fedplan.errors import DataError
from fedplan.plan import PlanInputSpec

A, B, Y, Z = (torch.zeros(n) for n in (1, 2, 3, 4))
DATA, TARGET = PlanInputSpec("data"), PlanInputSpec("target")


def data(index: int) -> PlanInputSpec:
    return PlanInputSpec("data", index=index)


def target(index: int) -> PlanInputSpec:
    return PlanInputSpec("target", index=index)


@pytest.mark.parametrize(
    ("specs", "batch", "paths"),
    [
        ([DATA, TARGET], (A, Y), [(0,), (1,)]),
        ([DATA, TARGET], [A, Y, Z], [(0,), (1,)]),
        ([data(0), data(1), TARGET], (A, B, Y), [(0,), (1,), (2,)]),
        ([data(1), target(0)], (Y, A), [(1,), (0,)]),
        ([data(0), data(1)], (A, Y), [(0,), (1,)]),
        ([data(0), data(1), TARGET], ((A, B), Y), [(0, 0), (0, 1), (1,)]),
        ([DATA, target(0), target(1)], (A, (Y, Z)), [(0,), (1, 0), (1, 1)]),
        ([data(0), target(0)], ([A, B], Y), [(0, 0), (1,)]),
        ([PlanInputSpec("data", "image"), TARGET], {"image": A, "target": Y}, [("image",), ("target",)]),
        ([PlanInputSpec("data", "image"), TARGET], ({"image": A}, Y), [(0, "image"), (1,)]),
        ([DATA], A, [()]),
        ([DATA], np.zeros(2), [()]),
    ],
)
def test_data_and_targets_are_found_in_every_form(
    specs: list[PlanInputSpec], batch: Any, paths: list[Path]
) -> None:
    assert locate_in_batch(specs, batch) == paths
    assert all(isinstance(take(batch, path), torch.Tensor | np.ndarray) for path in paths)


@pytest.mark.parametrize(
    ("specs", "batch", "message"),
    [
        ([DATA, TARGET], (A,), r"target should stand at batch\[1\].*form \(Tensor\)"),
        ([DATA], {"image": A}, r"data should stand at batch\['data'\].*\{'image': Tensor\}"),
        ([data(2)], ((A, B), Y), r"batch\[0\]\[2\].*\(\(Tensor, Tensor\), Tensor\)"),
        ([DATA], ("cat", Y), r"batch\[0\].*\(str, Tensor\)"),
        ([DATA], (), r"batch\[0\]"),
    ],
)
def test_what_is_missing_is_said_with_the_form_of_the_batch(
    specs: list[PlanInputSpec], batch: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        locate_in_batch(specs, batch)
