"""Checks in PyTorch's own losses, distributions and layers are left out of a Plan, as the author's are."""

from collections.abc import Callable

import pytest
import torch
from torch import distributions as dist
from torch import nn
from torch.nn import functional as F

from fedplan.errors import UnsupportedOpError
from fedplan.plan import RandomStream, model_parameters, trace, training_plan
from tests.plan.families import vectors
from tests.plan.same_numbers import SameNumbers


def test_a_check_of_pytorchs_losses_is_left_out() -> None:
    def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.gaussian_nll_loss(output[:, 0], output[:, 2].detach(), F.softplus(output[:, 1]))

    model = nn.Linear(6, 3)
    plan = training_plan(model, loss, example=vectors(4))
    x, y = vectors(7)
    torch.testing.assert_close(plan(x, y, 0.1, *model_parameters(model))[0], loss(model(x), y).detach())


Density = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(outputs, (batch, 3), classes) → one number for each sample, or three."""


def parts(output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One output of any sign, and two above zero."""
    return output[:, 0], F.softplus(output[:, 1]), F.softplus(output[:, 2])


DENSITIES: dict[str, Density] = {
    "categorical": lambda o, y: dist.Categorical(logits=o).log_prob(y),
    "normal": lambda o, y: dist.Normal(*parts(o)[:2]).log_prob(o[:, 2].detach()),
    "bernoulli": lambda o, y: dist.Bernoulli(logits=o[:, 0]).log_prob((y > 0).float()),
    "distance of normals": lambda o, y: dist.kl_divergence(dist.Normal(*parts(o)[:2]), dist.Normal(0.0, 1.0)),
    "poisson": lambda o, y: dist.Poisson(parts(o)[1]).log_prob(y.float()),
    "beta": lambda o, y: dist.Beta(*parts(o)[1:]).log_prob(o[:, 0].sigmoid()),
    "gamma": lambda o, y: dist.Gamma(*parts(o)[1:]).log_prob(y + 1.0),
    "entropy of a gamma": lambda o, y: dist.Gamma(*parts(o)[1:]).entropy(),
    "dirichlet": lambda o, y: dist.Dirichlet(o.exp()).log_prob(o.detach().softmax(1)),
    "student's t": lambda o, y: dist.StudentT(parts(o)[1] + 1).log_prob(o[:, 0]),
    "multivariate normal": lambda o, y: dist.MultivariateNormal(o, torch.eye(3) * 2).log_prob(o.detach() + 1),
    "mixture": lambda o, y: dist.MixtureSameFamily(
        dist.Categorical(logits=o), dist.Normal(o, o.exp())
    ).log_prob(y.float()),
}

DRAWN: dict[str, Density] = {
    "normal": lambda o, y: dist.Normal(*parts(o)[:2]).rsample(),
    "laplace": lambda o, y: dist.Laplace(*parts(o)[:2]).rsample(),
    "log-normal": lambda o, y: dist.LogNormal(*parts(o)[:2]).rsample(),
    "gumbel": lambda o, y: dist.Gumbel(*parts(o)[:2]).rsample(),
    "uniform": lambda o, y: dist.Uniform(o[:, 0], o[:, 0] + 2).rsample(),
    "exponential": lambda o, y: dist.Exponential(parts(o)[1]).rsample(),
    "weibull": lambda o, y: dist.Weibull(*parts(o)[1:]).rsample(),
    "multivariate normal": lambda o, y: dist.MultivariateNormal(o, torch.eye(3) * 2).rsample(),
    "relaxed categorical": lambda o, y: dist.RelaxedOneHotCategorical(0.5, logits=o).rsample().square(),
}


@pytest.mark.some(8)
@pytest.mark.parametrize("density", DENSITIES.values(), ids=DENSITIES)
def test_distributions_check_their_arguments_as_always(density: Density) -> None:
    check_distribution(density)


@pytest.mark.some(6)
@pytest.mark.parametrize("sample", DRAWN.values(), ids=DRAWN)
def test_a_distribution_is_drawn_from_and_passes_gradients_on(sample: Density) -> None:
    check_distribution(sample)


def check_distribution(density: Density) -> None:
    """A step whose loss is made of a distribution, against eager PyTorch with the same random numbers."""

    def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return -density(output, target).mean()

    torch.manual_seed(0)
    model = nn.Linear(6, 3)
    plan = training_plan(model, loss, example=vectors(4))
    stream = RandomStream(5)
    for rows in (3, 7):
        x, y = vectors(rows)
        outputs = plan(x, y, 0.1, *model_parameters(model), random=stream)
        with SameNumbers(plan.draw(stream, rows)):
            cost = loss(model(x), y)
        gradients = torch.autograd.grad(cost, list(model.parameters()))
        torch.testing.assert_close(outputs[0], cost.detach())
        for new, old, gradient in zip(outputs[1:], model_parameters(model), gradients, strict=True):
            torch.testing.assert_close(new, old - 0.1 * gradient)


@pytest.mark.parametrize(
    ("sample", "op"),
    [
        (lambda o, y: dist.Gamma(*parts(o)[1:]).rsample(), "_standard_gamma"),
        (lambda o, y: dist.StudentT(parts(o)[1] + 1).rsample(), "_standard_gamma"),
        (lambda o, y: dist.Dirichlet(o.exp()).rsample(), "_sample_dirichlet"),
    ],
    ids=["gamma", "student's t", "dirichlet"],
)
def test_a_distribution_without_draws_in_a_plan_is_refused(sample: Density, op: str) -> None:
    """They are drawn by trying until a number fits, so how many are drawn is not known before."""
    with pytest.raises(UnsupportedOpError, match=rf"{op}.*test_checks_of_pytorch\.py:\d+.*`torch\.randn`"):
        training_plan(nn.Linear(6, 3), lambda o, y: sample(o, y).mean(), example=vectors(4))


class Translator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.transformer = nn.Transformer(8, 2, 1, 1, 16, dropout=0.0, batch_first=True)
        self.out = nn.Linear(8, 3)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        return self.out(self.transformer(source, target, tgt_mask=mask).mean(dim=1))


def test_a_transformer_with_a_mask_needs_no_value_to_know_that_it_is_causal() -> None:
    model = Translator()

    def batch(rows: int) -> tuple[list[torch.Tensor], torch.Tensor]:
        return [torch.randn(rows, 5, 8), torch.randn(rows, 4, 8)], torch.randint(0, 3, (rows,))

    plan = training_plan(model, F.cross_entropy, example=batch(4))
    for rows in (1, 6):
        (source, target), y = batch(rows)
        cost = F.cross_entropy(model(source, target), y).detach()
        torch.testing.assert_close(plan(source, target, y, 0.1, *model_parameters(model))[0], cost)


@pytest.mark.parametrize("causal", [True, False])
def test_an_encoder_uses_the_mask_that_it_is_given(causal: bool) -> None:
    torch.manual_seed(0)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True), 1)
    mask = nn.Transformer.generate_square_subsequent_mask(5) if causal else torch.rand(5, 5).log()
    plan = trace(lambda x: encoder(x, mask=mask), torch.randn(4, 5, 8))
    x = torch.randn(3, 5, 8)
    torch.testing.assert_close(plan(x)[0], encoder(x, mask=mask).detach())
