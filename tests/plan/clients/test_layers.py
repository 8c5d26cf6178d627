"""Every layer and loss of `torch.nn` that becomes a Plan trains side by side as it does alone."""

import warnings
from collections.abc import Iterator

import pytest
import torch

from fedplan.errors import FedplanError
from fedplan.plan import model_parameters
from tests.plan.clients.agreement import Federation
from tests.plan.layers.agreement import _plan
from tests.plan.layers.layers import LAYERS
from tests.plan.layers.losses import LOSSES

CLIENTS, STEPS = 3, 2

OF_UPDATE = 1e-11
"""Some divide by a variance of few numbers, or add what nearly cancels."""


@pytest.fixture(autouse=True)
def _in_float64_without_slow_loops() -> Iterator[None]:
    """What is wrong shows beside roundings of float64; `torch.func.vmap` loops over no client."""
    torch._C._functorch._set_vmap_fallback_enabled(False)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
    torch._C._functorch._set_vmap_fallback_enabled(True)


@pytest.mark.some(72)
@pytest.mark.parametrize("name", [*LAYERS, *LOSSES])
def test_it_trains_side_by_side_as_it_does_alone(name: str) -> None:
    subject = LAYERS.get(name) or LOSSES[name]
    case = subject.case(subject.menu.plain())
    torch.manual_seed(case.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, about options
        model, score = case.build()
        try:
            plan = _plan(case, model, score, case.batch(case.rows[0]))
        except FedplanError as refusal:
            pytest.skip(f"it becomes no Plan: {str(refusal)[:80]}")
    batches = [[case.batch(case.rows[1]) for _ in range(STEPS)] for _ in range(CLIENTS)]
    Federation(plan, model_parameters(model), {"lr": 0.05}).check(batches, OF_UPDATE)
