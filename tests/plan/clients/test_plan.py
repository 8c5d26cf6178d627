"""One run of a Plan for many clients."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedplan.errors import PlanExecutionError, PlanInputError
from fedplan.plan import Plan, accuracy, evaluation_plan, model_parameters, trace
from fedplan.plan.clients.plan import over_clients
from tests.devices import ACCELERATORS
from tests.plan.families import cnn, images, mlp, vectors
from tests.plan.tracing.test_training import traced


def measured(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> Plan:
    return evaluation_plan(model, F.cross_entropy, example=batch, metrics={"accuracy": accuracy})


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_a_model_that_all_share_is_measured_on_the_data_of_each(kind: str) -> None:
    torch.manual_seed(0)
    model, batch = (mlp(), vectors) if kind == "mlp" else (cnn(), images)
    plan = measured(model, batch(5))
    made = [batch(6) for _ in range(4)]
    parameters = model_parameters(model)
    x, y = torch.stack([x for x, _ in made]), torch.stack([y for _, y in made])
    found = over_clients(plan)([x, y, *parameters], apart=(0, 1))
    for client, (data, target) in enumerate(made):
        expected = plan(data, target, *parameters)
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours[client], theirs, rtol=1e-5, atol=1e-6)


def test_a_model_of_its_own_is_measured_too() -> None:
    torch.manual_seed(1)
    models = [mlp() for _ in range(3)]
    plan = measured(models[0], vectors(5))
    made = [vectors(6) for _ in models]
    stacked = [torch.stack(parts) for parts in zip(*map(model_parameters, models), strict=True)]
    clients = over_clients(plan)
    assert clients.apart == tuple(range(len(plan.inputs)))
    found = clients([torch.stack([x for x, _ in made]), torch.stack([y for _, y in made]), *stacked])
    for client, (batch, model) in enumerate(zip(made, models, strict=True)):
        torch.testing.assert_close(
            [value[client] for value in found], plan(*batch, *model_parameters(model)), rtol=1e-5, atol=1e-6
        )


def test_what_does_not_depend_on_a_client_is_repeated_for_each() -> None:
    plan = trace(lambda x, w: [x + w, w * 2, w], torch.randn(3), torch.randn(3))
    x, w = torch.randn(4, 3), torch.randn(3)
    made = over_clients(plan)([x, w], apart=[0])
    torch.testing.assert_close(made, [x + w, (w * 2).expand(4, 3), w.expand(4, 3)])


def test_data_may_be_any_strided_tensor() -> None:
    plan = trace(lambda x, w: [x @ w], torch.randn(3, 2), torch.randn(2, 2))
    x, w = torch.randn(3, 2, 4), torch.randn(4, 2, 2)
    made = over_clients(plan)([x.permute(2, 0, 1), w], apart=[0, 1])
    torch.testing.assert_close(made, [x.permute(2, 0, 1) @ w])


def test_arguments_that_do_not_fit_are_refused() -> None:
    plan = trace(lambda x, w: [x @ w], torch.randn(3, 2), torch.randn(2, 2))
    clients = over_clients(plan)
    x, w = torch.randn(4, 3, 2), torch.randn(4, 2, 2)
    for arguments, apart, words in [
        ([x], (0,), "takes 2 arguments"),
        ([x, w[:3]], (0, 1), "'input 0' of 4, 'input 1' of 3"),
        ([x, w], (0,), "shape"),
        ([x.double(), w], (0, 1), "dtype"),
        ([x[0], w], (0, 1), "shape"),
        ([x.numpy(), w], (0, 1), "first axis of clients"),
        ([x[0], w[0]], (), "none"),
    ]:
        with pytest.raises(PlanInputError, match=words):
            clients(arguments, apart=apart)


def test_an_operation_that_fails_for_one_client_is_named() -> None:
    plan = trace(lambda x, i: [x[i]], torch.randn(3), torch.tensor([0, 2]))
    x, numbers = torch.randn(4, 3), torch.tensor([[0, 1], [2, 2], [1, 3], [0, 0]])
    with pytest.raises(PlanExecutionError, match=r"aten\.index"):
        over_clients(plan)([x, numbers], apart=(0, 1))


@pytest.mark.parametrize("device", ACCELERATORS)
@pytest.mark.parametrize("name", ["MLP", "MLP, Adam", "CNN with batch norm", "LSTM", "transformer layer"])
def test_it_runs_on_other_devices_too(name: str, device: str) -> None:
    torch.backends.cudnn.allow_tf32 = False
    plan = traced(name)[1]
    torch.manual_seed(2)
    arguments = []
    for item in plan.inputs:
        shape = [4 if extent is None else extent for extent in item.shape or ()]
        integers = item.dtype == "int64"
        arguments.append(torch.randint(0, 3, (3, *shape)) if integers else torch.rand(3, *shape))
    everything = range(len(arguments))
    expected = over_clients(plan)(arguments, apart=everything)
    found = over_clients(plan)([value.to(device) for value in arguments], apart=everything)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-4, atol=1e-4)
