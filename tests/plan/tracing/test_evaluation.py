"""`evaluation_plan`: the values of a model in evaluation mode, and nothing else."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedplan.errors import TraceError
from fedplan.plan import Plan, PlanOutputSpec, accuracy, evaluation_plan, model_parameters

X, Y = torch.randn(6, 4), torch.arange(6) % 3


def model():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    with torch.no_grad():
        net[1].running_mean += 0.3
        net[1].running_var *= 2
    return net


def test_it_measures_as_the_model_in_evaluation_mode_does():
    net = model()
    plan = Plan.parse(
        evaluation_plan(net, F.cross_entropy, example=(X, Y), metrics={"accuracy": accuracy}).serialize()
    )
    x, y = torch.randn(11, 4), torch.arange(11) % 3
    parameters = [p + 0.1 for p in model_parameters(net)[:-2]] + model_parameters(net)[-2:]

    loss, share = plan(x, y, *parameters)

    other = model().eval()
    with torch.no_grad():
        for own, given in zip(other.parameters(), parameters, strict=False):
            own.copy_(given)
        output = other(x)
    torch.testing.assert_close(loss, F.cross_entropy(output, y))
    torch.testing.assert_close(share, accuracy(output, y))
    assert [spec.type for spec in plan.output_specs] == [PlanOutputSpec.TYPE_LOSS, PlanOutputSpec.TYPE_METRIC]


def test_it_draws_no_random_numbers_and_leaves_the_model_as_it_was():
    net = model()
    net[1].eval()
    before = [p.clone() for p in model_parameters(net)]
    plan = evaluation_plan(net, F.cross_entropy, example=(X, Y))
    assert not [spec for spec in plan.input_specs if spec.type == "random"]
    assert [layer.training for layer in net] == [True, False, True, True]
    assert all(torch.equal(a, b) for a, b in zip(before, model_parameters(net), strict=True))


def test_the_loss_may_be_the_models_own():
    class WithLoss(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x, labels):
            class Output:
                loss = F.cross_entropy(self.layer(x), labels)

            return Output()

    net = WithLoss()
    plan = evaluation_plan(net, example={"x": X, "labels": Y})
    (loss,) = plan(X, Y, *model_parameters(net))
    torch.testing.assert_close(loss, net(X, Y).loss.detach())


def test_slips_are_refused():
    with pytest.raises(TraceError, match=r"the loss is the class CrossEntropyLoss: call it"):
        evaluation_plan(model(), nn.CrossEntropyLoss, example=(X, Y))
    with pytest.raises(TraceError, match="'drift' has an argument `step`"):
        evaluation_plan(
            model(), F.cross_entropy, example=(X, Y), metrics={"drift": lambda o, t, step: o.mean()}
        )
    with pytest.raises(TraceError, match="the metric 'share' returns a NoneType"):
        evaluation_plan(model(), F.cross_entropy, example=(X, Y), metrics={"share": lambda o, t: None})


def test_a_loss_that_is_no_scalar_is_refused():
    with pytest.raises(TraceError, match=r"the loss has the shape \[.*a scalar is needed"):
        evaluation_plan(model(), nn.CrossEntropyLoss(reduction="none"), example=(X, Y))


def test_an_encoder_leaves_out_the_steps_that_are_filled_up() -> None:
    """PyTorch's kernels for inference would take nested tensors here."""

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.encoder(x, src_key_padding_mask=x[..., 0] > 1.2)[:, 0]
            return found

    model, x, y = Encoder(), torch.randn(8, 5, 4), torch.randint(0, 4, (8,))
    x[:, 0] = 0.0  # one step that is no filling
    plan = evaluation_plan(model, F.cross_entropy, example=(x, y))
    made = plan(x, y, *model_parameters(model))[0]
    torch.testing.assert_close(made, F.cross_entropy(model.eval()(x), y).detach())


def test_an_evaluation_that_goes_another_way_when_it_is_traced_is_refused() -> None:
    class Asking(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x if isinstance(x.shape[0], int) else -x)

    with pytest.raises(TraceError, match="the Plan's 'loss' of the example is"):
        evaluation_plan(Asking(4, 3), F.cross_entropy, example=(X, Y))
