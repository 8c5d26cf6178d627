"""A Plan of each layer and loss runs on an accelerator as on the CPU; skipped where there is none."""

import warnings

import pytest
import torch

from fedplan.errors import FedplanError
from fedplan.plan import RandomStream, RepeatedPlan, model_parameters
from tests.devices import ACCELERATORS
from tests.plan.layers.agreement import _arguments, _plan, _zeros, difference
from tests.plan.layers.layers import LAYERS
from tests.plan.layers.losses import LOSSES

TOLERANCE = 2e-4
STREAM = RandomStream(3)


@pytest.fixture(autouse=True)
def _whole_float32() -> None:
    """cuDNN's convolutions and recurrent layers use fewer digits by default."""
    torch.backends.cudnn.allow_tf32 = False


@pytest.mark.parametrize("device", ACCELERATORS)
@pytest.mark.parametrize("name", [*LAYERS, *LOSSES])
def test_it_runs_there_as_on_the_cpu(name: str, device: str) -> None:
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
    rows = case.rows[1]
    batch = case.batch(rows)
    arguments = [*_arguments(plan, batch, model_parameters(model), _zeros(plan)), *plan.draw(STREAM, rows)]
    expected = plan(*arguments)
    moved = [tensor.to(device) for tensor in arguments]
    for made in (plan(*moved), plan(*moved)):  # checked, operation by operation, and compiled
        assert {tensor.device.type for tensor in made} == {device}
        for one, other in zip(expected, made, strict=True):
            assert difference(one, other.cpu()) <= TOLERANCE
    varying = [place for place, item in enumerate(plan.inputs) if item.is_data or item.is_random]
    values = [moved[place] for place in varying]
    repeated = RepeatedPlan(plan, [t.clone() for t in moved], varying=varying, carried={}, fixed=[])
    for one, other in zip(expected, repeated(values), strict=True):
        assert difference(one, other.cpu()) <= TOLERANCE
