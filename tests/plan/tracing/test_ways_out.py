"""A layer of PyTorch's that no Plan can have is refused with what to take instead, and that works."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.func import hessian, jacfwd, jacrev, jvp, vmap
from torch.nn import functional as F

from fedplan.errors import TraceError
from fedplan.plan import training_plan
from tests.plan.tracing.agreement import check_training

Model = Callable[[], nn.Module]


class Classes(nn.Module):
    """A softmax over words, the rare ones in clusters."""

    def __init__(self, of_all: bool) -> None:
        super().__init__()
        self.before = nn.Linear(6, 6)
        self.head = nn.AdaptiveLogSoftmaxWithLoss(6, 9, [3, 6], div_value=2.0)
        self.of_all = of_all

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.before(x)
        words = torch.arange(x.shape[0]) % 9
        if self.of_all:
            return F.nll_loss(self.head.log_prob(inner), words)
        return self.head(inner, words).loss


def between(layer: Callable[[], nn.Module]) -> Model:
    return lambda: nn.Sequential(nn.Conv2d(1, 4, 3), layer(), nn.Flatten())


WAYS_OUT: dict[str, tuple[Model, Model, str]] = {
    "batch norm without momentum": (
        between(lambda: nn.BatchNorm2d(4, momentum=None)),
        between(lambda: nn.BatchNorm2d(4, momentum=0.2)),
        "momentum.*give it a number",
    ),
    "response norm": (
        between(lambda: nn.CrossMapLRN2d(3)),
        between(lambda: nn.LocalResponseNorm(3)),
        "Use `nn.LocalResponseNorm`",
    ),
    "words in clusters": (
        lambda: Classes(of_all=False),
        lambda: Classes(of_all=True),
        r"F\.nll_loss\(head\.log_prob\(x\), target\)",
    ),
}


def pictures(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(rows, 1, 6, 6), torch.zeros(rows)


def vectors(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(rows, 6), torch.zeros(rows)


@pytest.mark.parametrize("what", WAYS_OUT)
def test_a_refusal_names_layer_and_line_and_a_way_out_that_works(what: str) -> None:
    refused, instead, words = WAYS_OUT[what]
    batch = vectors if "words" in what else pictures
    torch.manual_seed(0)
    with pytest.raises(TraceError, match=rf"\.py:\d+ in \w+: \w+.*{words}"):
        training_plan(refused(), lambda o, y: o.mean() + y.sum(), example=batch(4))
    check_training(instead, batch, rows=(4, 7))


def test_the_loss_over_all_words_is_that_of_the_clusters() -> None:
    torch.manual_seed(0)
    one, other = Classes(of_all=False), Classes(of_all=True)
    other.load_state_dict(one.state_dict())
    x = torch.randn(9, 6)
    torch.testing.assert_close(one(x), other(x))


class Derived(nn.Module):
    """A layer, and a function of its derivatives."""

    def __init__(self, derive: Callable[[Callable[..., torch.Tensor], torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.layer, self.derive = nn.Linear(6, 3), derive

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + self.derive(lambda one: self.layer(one).tanh(), x)


def along(f: Callable[..., torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    made: torch.Tensor = torch.autograd.functional.jvp(f, x, torch.ones_like(x), create_graph=True)[1]
    return made


FORWARD = {
    "jacfwd": (lambda f, x: vmap(jacfwd(f))(x).sum(2), lambda f, x: vmap(jacrev(f))(x).sum(2)),
    "hessian": (
        lambda f, x: vmap(hessian(f))(x).sum((2, 3)),
        lambda f, x: vmap(jacrev(jacrev(f)))(x).sum((2, 3)),
    ),
    "jvp": (lambda f, x: jvp(f, (x,), (torch.ones_like(x),))[1], along),
}


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # PyTorch's own, of `jvp`
@pytest.mark.parametrize("what", FORWARD)
def test_derivatives_that_are_taken_forward_are_refused_and_those_that_are_taken_backward_work(
    what: str,
) -> None:
    forward, backward = FORWARD[what]
    with pytest.raises(TraceError, match="Take derivatives backward"):
        training_plan(Derived(forward), lambda o, y: o.square().mean() + y.sum(), example=vectors(4))
    check_training(lambda: Derived(backward), vectors, rows=(4, 7))


def test_a_layer_that_is_converted_while_the_model_runs_is_refused() -> None:
    class Converting(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.linear(x.double(), self.double().weight).float()

    with pytest.raises(TraceError, match="converted or moved while the model runs"):
        training_plan(Converting(6, 3), lambda o, y: o.mean() + y.sum(), example=vectors(4))


def growing(model: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    made = nn.Linear.forward(model, x)
    model.kept = torch.cat([model.kept, made.detach().mean(0, keepdim=True)])
    return made - model.kept.mean(0)


def of_two_losses(model: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    made = nn.Linear.forward(model, x)
    return made + torch.tensor([made.mean(), made.square().mean()]).sum()


def of_two_sides(model: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    made = nn.Linear.forward(model, x)
    return torch.cond(made.sum() > 0, lambda a: a * 2, lambda a: a * 3, (made,))


@pytest.mark.parametrize(
    ("forward", "why"),
    [
        (growing, r"'kept' has the shape \[1, 3\], and \[2, 3\] after the step"),
        (of_two_losses, "use `torch.stack`"),
        (of_two_sides, "take `torch.where`"),
    ],
)
def test_other_things_that_no_plan_can_have_are_told_of(
    forward: Callable[[nn.Linear, torch.Tensor], torch.Tensor], why: str
) -> None:
    class Net(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return forward(self, x)

    model = Net(6, 3)
    model.register_buffer("kept", torch.zeros(1, 3))
    with pytest.raises(TraceError, match=why):
        training_plan(model, lambda o, y: o.mean() + y.sum(), example=vectors(4))


def test_an_example_without_rows_is_refused() -> None:
    with pytest.raises(TraceError, match="example 0 has no rows"):
        training_plan(nn.Linear(6, 3), lambda o, y: o.mean() + y.sum(), example=vectors(0))
