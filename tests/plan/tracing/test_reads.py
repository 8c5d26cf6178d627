"""Reads of values that only guard against errors are left out of a Plan; all others are refused.

PYTEST_DONT_REWRITE: the asserts below are read as they stand.
"""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import distributions as dist
from torch import nn
from torch.nn import functional as F

from fedplan.errors import TraceError, UnsupportedOpError
from fedplan.plan import RandomStream, model_parameters, trace, training_plan
from tests.plan.families import vectors
from tests.plan.same_numbers import SameNumbers

Step = Callable[[torch.Tensor], torch.Tensor]


def asserted(x: torch.Tensor) -> torch.Tensor:
    assert not torch.isnan(x).any(), f"{x} is not a number"
    return x * 2


def raised(x: torch.Tensor) -> torch.Tensor:
    if (x > 100).any() or torch.isinf(x).any().item():
        raise ValueError("too large" if x.sum() > 0 else "too small")
    return x * 2


def asserted_number(x: torch.Tensor) -> torch.Tensor:
    assert x.abs().max().item() < 100
    return x * 2


def asserted_in_with(x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        assert torch.isfinite(x).all()
    return x * 2


@contextlib.contextmanager
def announced(text: str) -> Iterator[None]:
    print(text)
    try:
        yield
    finally:
        print("done")


def asserted_in_own_with(x: torch.Tensor) -> torch.Tensor:
    with announced("checks"), torch.autograd.set_detect_anomaly(False):
        assert torch.isfinite(x).all()
    return x * 2


def asserted_in_held_with(x: torch.Tensor) -> torch.Tensor:
    lock, grad = threading.Lock(), torch.no_grad()
    with lock, grad:
        assert torch.isfinite(x).all()
    return x * 2


def asserted_by_pytorch(x: torch.Tensor) -> torch.Tensor:
    torch._assert((x < 100).all(), "too large")
    return x * 2


def raised_again(x: torch.Tensor) -> torch.Tensor:
    try:
        asserted(x)
    except AssertionError as error:
        raise ValueError("bad input") from error
    return x * 2


@pytest.mark.parametrize(
    "step",
    [
        asserted,
        raised,
        asserted_number,
        asserted_in_with,
        asserted_in_own_with,
        asserted_in_held_with,
        asserted_by_pytorch,
        raised_again,
    ],
)
def test_a_check_that_can_only_raise_is_left_out(step: Step) -> None:
    plan = trace(step, torch.ones(4, 3))
    assert [node.op for node in plan.graph.nodes] == ["aten.mul.Tensor"]
    assert torch.equal(plan(torch.ones(5, 3))[0], torch.full((5, 3), 2.0))


def chosen(x: torch.Tensor) -> torch.Tensor:
    return x * 2 if x.sum() > 0 else x


def returned(x: torch.Tensor) -> torch.Tensor:
    if not torch.isfinite(x).all():
        return x
    return x * 2


def caught(x: torch.Tensor) -> torch.Tensor:
    try:
        if x.sum() > 0:
            raise ValueError
    except ValueError:
        return x
    return x * 2


def caught_outside(x: torch.Tensor) -> torch.Tensor:
    with contextlib.ExitStack():
        try:
            asserted(x)
        except AssertionError:
            x = x + 1
    return x * 2


def suppressed(x: torch.Tensor) -> torch.Tensor:
    with contextlib.suppress(ValueError):
        if not torch.isfinite(x).all():
            raise ValueError
        x = x * 2
    return x


def suppressed_by_a_name(x: torch.Tensor) -> torch.Tensor:
    quiet = contextlib.suppress(AssertionError)
    with torch.no_grad(), quiet, torch.no_grad():
        assert torch.isfinite(x).all()
        x = x * 2
    return x + 1


def suppressed_outside(x: torch.Tensor) -> torch.Tensor:
    with contextlib.suppress(AssertionError), torch.no_grad():
        x = asserted(x)
    return x * 2


def suppressed_by_a_stack(x: torch.Tensor) -> torch.Tensor:
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(AssertionError))
        x = asserted(x)
    return x * 2


class Quiet:
    """A context manager of the author's."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> bool:
        return True


def suppressed_by_a_class(x: torch.Tensor) -> torch.Tensor:
    with Quiet():
        x = asserted(x)
    return x * 2


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    try:
        with torch.no_grad():
            yield
    except AssertionError:
        print("failed")


def suppressed_by_a_generator(x: torch.Tensor) -> torch.Tensor:
    with quiet():
        x = asserted(x)
    return x * 2


def suppressed_by_a_decorator(x: torch.Tensor) -> torch.Tensor:
    doubled = quiet()(asserted)(x)
    return x if doubled is None else doubled


def caught_outside_of_with(x: torch.Tensor) -> torch.Tensor:
    try:
        with torch.no_grad():
            assert torch.isfinite(x).all()
    except AssertionError:
        return x
    return x * 2


def kept(x: torch.Tensor) -> torch.Tensor:
    positive = bool((x > 0).all())
    return x * 2 if positive else x


def repeated(x: torch.Tensor) -> torch.Tensor:
    while x.sum() > 3:
        x = x / 2
    return x


def compared(x: torch.Tensor) -> torch.Tensor:
    return x * min(x.sum().item(), 1.0)


def warned(x: torch.Tensor) -> torch.Tensor:
    if torch.isnan(x).any():
        print("not a number")
    return x * 2


@pytest.mark.parametrize(
    "step",
    [
        suppressed,
        suppressed_by_a_name,
        suppressed_outside,
        suppressed_by_a_stack,
        suppressed_by_a_class,
        suppressed_by_a_generator,
        suppressed_by_a_decorator,
    ],
)
def test_a_check_in_a_block_that_may_swallow_its_error_is_refused(step: Step) -> None:
    with pytest.raises(TraceError, match=r"read into Python at test_reads\.py:"):
        trace(step, torch.ones(4, 3))


class Scaled:
    """Has a scale for small numbers only."""

    def __init__(self, x: torch.Tensor) -> None:
        self.x = x

    @property
    def scale(self) -> float:
        if (self.x > 1).any():
            raise AttributeError("there is none")
        return 5.0


def asked_by_hasattr(x: torch.Tensor) -> torch.Tensor:
    return x * (5 if hasattr(Scaled(x), "scale") else 2)


class Halves:
    """Halves of a tensor, until they are small."""

    def __init__(self, x: torch.Tensor) -> None:
        self.x = x

    def __iter__(self) -> "Halves":
        return self

    def __next__(self) -> torch.Tensor:
        if (self.x < 1).all():
            raise StopIteration
        self.x = self.x / 2
        return self.x


def ended_by_an_iterator(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([half.sum() for half in itertools.islice(Halves(x), 3)])


@pytest.mark.parametrize(
    "step",
    [
        chosen,
        returned,
        caught,
        caught_outside,
        caught_outside_of_with,
        kept,
        repeated,
        compared,
        warned,
        asked_by_hasattr,
        ended_by_an_iterator,
    ],
)
def test_a_read_that_has_two_ways_on_is_refused(step: Step) -> None:
    with pytest.raises(TraceError, match=r"read into Python at test_reads\.py:"):
        trace(step, torch.ones(4, 3))


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
    with pytest.raises(UnsupportedOpError, match=rf"{op}.*test_reads\.py:\d+.*`torch\.randn`"):
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
