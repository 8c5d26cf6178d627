"""What a loss may know of its step: the model as received, the number of the batch, numbers of the config."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedplan.client import PlanTrainer, PlanTrainerCheckpoint, SyftModel
from fedplan.errors import TranslationError
from fedplan.plan import Plan, PlanInputSpec, model_parameters, training_plan
from fedplan.plan.tracing.context import StepContext
from fedplan.plan.variants.make import make_variant

X, Y = torch.randn(12, 6), torch.randint(3, (12,))


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def proximal(output: torch.Tensor, target: torch.Tensor, step: StepContext) -> torch.Tensor:
    """FedProx: a penalty on the distance to the model as it was received."""
    apart = sum((p - step.received[name]).square().sum() for name, p in step.parameters.items())
    return F.cross_entropy(output, target) + step.config["mu"] / 2 * apart


def warmed(output: torch.Tensor, target: torch.Tensor, step: StepContext) -> torch.Tensor:
    return F.cross_entropy(output, target) * ((step.number + 1) / 10).clamp(max=1.0)


def trainer(plan: Plan, start: nn.Module, **more: object) -> PlanTrainer:
    return PlanTrainer(
        plan=plan, model=SyftModel(model_parameters(start)), data=X, target=Y, batch_size=4,
        client_config={"lr": 0.5, "mu": 0.7}, epochs=2, **more,
    )  # fmt: skip


def by_hand(start: nn.Module, loss: str) -> list[torch.Tensor]:
    net = copy.deepcopy(start)
    received = [p.detach().clone() for p in net.parameters()]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    for number in range(6):
        x, y = (t[number % 3 * 4 : number % 3 * 4 + 4] for t in (X, Y))
        cost = F.cross_entropy(net(x), y)
        if loss == "proximal":
            pairs = zip(net.parameters(), received, strict=True)
            cost = cost + 0.35 * sum((p - q).square().sum() for p, q in pairs)
        else:
            cost = cost * min(1.0, (number + 1) / 10)
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
    return model_parameters(net)


async def test_a_penalty_on_the_distance_to_the_model_as_received() -> None:
    start = model()
    plan = training_plan(start, proximal, example=(X, Y), config=["mu"])
    kinds = [spec.type for spec in Plan.parse(plan.serialize()).input_specs or ()]
    assert kinds.count(PlanInputSpec.TYPE_RECEIVED_PARAM) == 4
    assert plan.state == ()
    training = trainer(plan, start)
    await training.start()
    for ours, theirs in zip(training.current_model.params, by_hand(start, "proximal"), strict=True):
        torch.testing.assert_close(ours, theirs)


async def test_the_number_of_the_batch_goes_on_after_a_resume() -> None:
    start = model()
    plan = training_plan(start, warmed, example=(X, Y))
    assert PlanInputSpec.TYPE_RECEIVED_PARAM not in [spec.type for spec in plan.input_specs or ()]
    training = trainer(plan, start)
    training.on("batch_end", lambda e: training.stop() if (e.epoch, e.batch) == (0, 1) else None)
    await training.start()
    kept = training.create_checkpoint().to_dict()
    again = trainer(plan, start, checkpoint=PlanTrainerCheckpoint.from_json(None, kept))
    await again.resume()
    for ours, theirs in zip(again.current_model.params, by_hand(start, "warmed"), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_number_of_the_cycle_is_an_input_where_the_loss_reads_it() -> None:
    def halved(output: torch.Tensor, target: torch.Tensor, step: StepContext) -> torch.Tensor:
        assert (step.cycle.dtype, step.cycle.shape) == (torch.int64, ())
        return F.cross_entropy(output, target) / step.cycle

    start = model()
    plan = Plan.parse(training_plan(start, halved, example=(X, Y)).serialize())
    kinds = [spec.type for spec in plan.input_specs or ()]
    assert PlanInputSpec.TYPE_CYCLE in kinds
    assert PlanInputSpec.TYPE_STEP not in kinds
    given = [X, Y, torch.tensor([0.0]), *model_parameters(start)]
    once, thrice = (plan(*given, torch.tensor([cycle]))[0] for cycle in (1, 3))
    torch.testing.assert_close(once, 3 * thrice)
    for variant in ("tfjs", "torchscript"):
        with pytest.raises(TranslationError, match=r"the input 'cycle' .* told the number of the cycle"):
            make_variant(plan, variant)


@pytest.mark.parametrize("variant", ["tfjs", "torchscript"])
def test_clients_that_keep_no_model_as_received_are_told_so(variant: str) -> None:
    plan = training_plan(model(), proximal, example=(X, Y), config=["mu"])
    with pytest.raises(TranslationError, match="as they received it"):
        make_variant(plan, variant)
