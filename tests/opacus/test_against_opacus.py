"""DP-SGD in a Plan beside Opacus: the same clipped gradients, and an ε that is no larger."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedplan.federation.privacy import DpSgdSteps, ExamplePrivacy
from fedplan.plan import DpSgd, model_parameters, training_plan
from tests.plan.tracing.test_per_sample import MODELS, RATE, labels

pytest.importorskip("opacus", reason="Opacus is not here; scripts/test --opacus has it")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from opacus.accountants import create_accountant
    from opacus.grad_sample import GradSampleModule
    from opacus.layers import DPLSTM
    from opacus.optimizers import DPOptimizer

pytestmark = pytest.mark.filterwarnings("ignore")  # Opacus's own

DP = DpSgd(max_grad_norm=0.5, noise_multiplier=0.0, expected_batch_size=4)


def as_opacus_has_it(model: nn.Module) -> nn.Module:
    """The same model with the recurrent layer that Opacus can take apart."""
    found = copy.deepcopy(model)
    for name, layer in found.named_children():
        if isinstance(layer, nn.LSTM):
            own = DPLSTM(layer.input_size, layer.hidden_size, batch_first=True)
            own.load_state_dict(layer.state_dict())
            setattr(found, name, own)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_three_steps_are_those_of_opacus(name: str) -> None:
    torch.manual_seed(3)
    make, data = MODELS[name]
    model = make()
    plan = training_plan(model, F.cross_entropy, example=(data(4), labels(4)), dp=DP)
    tensors = model_parameters(copy.deepcopy(model))
    theirs = GradSampleModule(as_opacus_has_it(model), loss_reduction="mean")
    optimizer = DPOptimizer(
        torch.optim.SGD(theirs.parameters(), lr=RATE),
        noise_multiplier=0.0,
        max_grad_norm=DP.max_grad_norm,
        expected_batch_size=DP.expected_batch_size,
    )
    for rows in (5, 3, 5):
        x, y = data(rows), labels(rows)
        optimizer.zero_grad()
        F.cross_entropy(theirs(x), y).backward()
        optimizer.step()
        _, *tensors = plan(x, y, torch.tensor([RATE]), *tensors, torch.ones(rows))
    trained = theirs._module.state_dict()
    for ours, (key, start) in zip(tensors, model.named_parameters(), strict=True):
        torch.testing.assert_close(ours, trained[key], rtol=0, atol=1e-5)
        assert not torch.equal(ours, start)


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "delta"),
    [
        (1.0, 0.01, 1000, 1e-5),
        (1.1, 64 / 60_000, 14_062, 1e-5),
        (0.8, 0.001, 2000, 1e-6),
        (2.0, 0.1, 300, 1e-5),
    ],
)
def test_epsilon_is_below_opacus_rdp_and_near_its_prv(
    noise: float, rate: float, steps: int, delta: float
) -> None:
    ours = ExamplePrivacy.of([DpSgdSteps(noise, rate, steps)]).epsilon(delta)
    told: dict[str, float] = {}
    for mechanism in ("rdp", "prv"):
        accountant = create_accountant(mechanism)
        accountant.history = [(noise, rate, steps)]
        told[mechanism] = float(accountant.get_epsilon(delta))
    print(f"noise {noise}, rate {rate:.5f}, {steps} steps, δ {delta}: ours {ours:.4f}, Opacus {told}")
    assert ours <= told["rdp"]
    assert ours == pytest.approx(told["prv"], rel=0.02)
