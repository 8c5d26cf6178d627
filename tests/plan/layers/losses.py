"""Every loss of `torch.nn`: its options, what a model must give it, and its targets."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from tests.plan.layers.cases import CLASSES, Batch, Case, Choice, Menu, Score, classes

FEATURES = 6
WEIGHTS = torch.tensor([0.5, 1.0, 2.0])
REDUCTION = {"reduction": ("mean", "sum", "none")}


def fractions(rows: int) -> torch.Tensor:
    return torch.randn(rows, CLASSES)


def shares(rows: int) -> torch.Tensor:
    """Probabilities of the classes, (rows, 3)."""
    return torch.rand(rows, CLASSES).softmax(dim=1)


def truths(rows: int) -> torch.Tensor:
    """0 or 1 for each class, (rows, 3), float32."""
    return torch.randint(0, 2, (rows, CLASSES)).float()


def signs(rows: int) -> torch.Tensor:
    """−1 or 1 for each class, (rows, 3)."""
    return truths(rows) * 2 - 1


def sign(rows: int) -> torch.Tensor:
    """−1 or 1, (rows,)."""
    return torch.randint(0, 2, (rows,)).float() * 2 - 1


def counts(rows: int) -> torch.Tensor:
    return torch.randint(0, 5, (rows, CLASSES)).float()


def labels(rows: int) -> torch.Tensor:
    """Classes that a sample has, closed by −1, (rows, 3)."""
    return torch.tensor([[2, 0, -1], [1, -1, -1], [0, 1, 2]])[torch.randint(0, 3, (rows,))]


def pixels(rows: int) -> torch.Tensor:
    """A class for each of four places, (rows, 4)."""
    return torch.randint(0, CLASSES, (rows, 4))


def no_target(rows: int) -> torch.Tensor:
    return torch.zeros(rows)


def as_it_is(raw: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return (raw,)


@dataclasses.dataclass(frozen=True)
class Loss:
    """How to make and feed a loss.

    Attributes:
        menu: its options, passed to `make`, but for `target` and `outputs`.
        make: makes it of its options.
        targets: makers of targets by the value of the option `target`.
        outputs: what the model makes of its last layer, (batch, outputs), for the loss, by target.
        width: outputs of the model's last layer.
    """

    menu: Menu
    make: Callable[..., nn.Module]
    targets: Mapping[str, Callable[[int], torch.Tensor]]
    arguments: Callable[[torch.Tensor], tuple[torch.Tensor, ...]]
    width: int = CLASSES

    def case(self, choice: Choice) -> Case:
        """A linear model that this loss trains."""
        options = dict(choice.options)
        target = self.targets[options.pop("target")]

        def build() -> tuple[nn.Module, Score]:
            loss = self.make(**options)
            return Outputs(self.width, self.arguments), Reduced(loss)

        def batch(rows: int) -> Batch:
            return [torch.randn(rows, FEATURES)], target(rows)

        return Case(str(choice), build, batch)


class Outputs(nn.Module):
    """A linear model whose outputs are made into a loss's arguments."""

    def __init__(self, width: int, arguments: Callable[[torch.Tensor], tuple[torch.Tensor, ...]]) -> None:
        super().__init__()
        self.linear = nn.Linear(FEATURES, width)
        self.arguments = arguments

    def forward(self, x: torch.Tensor) -> Any:
        made = self.arguments(self.linear(x))
        return made[0] if len(made) == 1 else made


@dataclasses.dataclass(frozen=True)
class Reduced:
    """A loss of one output or several, whose mean is taken where it does not do so itself."""

    loss: nn.Module

    def __call__(self, output: Any, target: torch.Tensor) -> torch.Tensor:
        made = self.loss(*output, target) if isinstance(output, tuple) else self.loss(output, target)
        return made.mean()


LOSSES: dict[str, Loss] = {}


def loss(
    name: str,
    target: Callable[[int], torch.Tensor] | Mapping[str, Callable[[int], torch.Tensor]],
    *,
    arguments: Callable[[torch.Tensor], tuple[torch.Tensor, ...]] = as_it_is,
    make: Callable[..., nn.Module] | None = None,
    width: int = CLASSES,
    **options: Sequence[Any],
) -> None:
    targets = target if isinstance(target, Mapping) else {target.__name__: target}
    menu = Menu(name, {"target": tuple(targets), **options})
    if hasattr(nn, name):  # older PyTorch has fewer
        LOSSES[name] = Loss(menu, make or getattr(nn, name), targets, arguments, width)


loss("L1Loss", fractions, **REDUCTION)
loss("MSELoss", fractions, **REDUCTION)
loss("SmoothL1Loss", fractions, beta=(1.0, 0.3, 0.0), **REDUCTION)
loss("HuberLoss", fractions, delta=(1.0, 0.3), **REDUCTION)
loss(
    "CrossEntropyLoss",
    {"classes": classes, "shares": shares},
    weight=(None, WEIGHTS),
    ignore_index=(-100, 1),
    label_smoothing=(0.0, 0.1),
    **REDUCTION,
)


def log_shares(raw: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return (raw.log_softmax(dim=1),)


def places(raw: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return (raw.unflatten(1, (CLASSES, 4)).log_softmax(dim=1),)


loss("NLLLoss", classes, arguments=log_shares, weight=(None, WEIGHTS), ignore_index=(-100, 1), **REDUCTION)
loss(
    "NLLLoss2d",
    pixels,
    arguments=places,
    width=4 * CLASSES,
    weight=(None, WEIGHTS),
    ignore_index=(-100, 1),
    **REDUCTION,
)
loss(
    "PoissonNLLLoss",
    counts,
    arguments=lambda raw: (F.softplus(raw),),  # positive, as log_input=False needs it
    log_input=(True, False),
    full=(False, True),
    eps=(1e-8, 1e-2),
    **REDUCTION,
)


def mean_and_variance(raw: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return raw[:, :CLASSES], F.softplus(raw[:, CLASSES:])


class Gaussian(nn.GaussianNLLLoss):
    """The loss with its target last."""

    def forward(self, mean: torch.Tensor, variance: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return super().forward(mean, target, variance)


loss(
    "GaussianNLLLoss",
    fractions,
    arguments=mean_and_variance,
    make=Gaussian,
    width=2 * CLASSES,
    full=(False, True),
    eps=(1e-6, 0.5),
    **REDUCTION,
)


def log_shares_as_target(rows: int) -> torch.Tensor:
    return shares(rows).log()


loss(
    "KLDivLoss",
    {"shares": shares, "logarithms": log_shares_as_target},
    arguments=log_shares,
    log_target=(False, True),
    reduction=("batchmean", "mean", "sum", "none"),
)
loss("BCELoss", truths, arguments=lambda raw: (raw.sigmoid(),), weight=(None, WEIGHTS), **REDUCTION)
loss("BCEWithLogitsLoss", truths, weight=(None, WEIGHTS), pos_weight=(None, WEIGHTS), **REDUCTION)
loss("HingeEmbeddingLoss", signs, margin=(1.0, 0.3), **REDUCTION)
loss("SoftMarginLoss", signs, **REDUCTION)
loss("MultiLabelSoftMarginLoss", truths, weight=(None, WEIGHTS), **REDUCTION)
loss("MultiLabelMarginLoss", labels, **REDUCTION)
loss("MultiMarginLoss", classes, p=(1, 2), margin=(1.0, 0.3), weight=(None, WEIGHTS), **REDUCTION)


def halves(raw: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return raw[:, :CLASSES], raw[:, CLASSES:]


def thirds(raw: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tuple(raw.split(CLASSES, dim=1))


loss("CosineEmbeddingLoss", sign, arguments=halves, width=2 * CLASSES, margin=(0.0, 0.3), **REDUCTION)
loss("MarginRankingLoss", signs, arguments=halves, width=2 * CLASSES, margin=(0.0, 0.3), **REDUCTION)


class Triplet(nn.Module):
    """A loss of three outputs, which needs no target."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(
        self, anchor: torch.Tensor, near: torch.Tensor, far: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        return self.loss(anchor, near, far) + 0 * target.sum()


loss(
    "TripletMarginLoss",
    no_target,
    arguments=thirds,
    make=lambda **options: Triplet(nn.TripletMarginLoss(**options)),
    width=3 * CLASSES,
    margin=(1.0, 0.3),
    p=(2.0, 1.0),
    eps=(1e-6, 1e-2),
    swap=(False, True),
    **REDUCTION,
)


def angle(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return 1 - F.cosine_similarity(one, other)


loss(
    "TripletMarginWithDistanceLoss",
    no_target,
    arguments=thirds,
    make=lambda **options: Triplet(nn.TripletMarginWithDistanceLoss(**options)),
    width=3 * CLASSES,
    distance_function=(None, angle),
    margin=(1.0, 0.3),
    swap=(False, True),
    **REDUCTION,
)


class Spoken(nn.Module):
    """CTC for five steps and two labels each, which are never the blank."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.loss = nn.CTCLoss(**options)

    def forward(self, steps: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        rows = steps.shape[1]
        lengths = torch.full((rows,), 5), torch.full((rows,), 2)
        return self.loss(steps, target, *lengths)


def steps(raw: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return (raw.unflatten(1, (5, CLASSES)).log_softmax(dim=2).transpose(0, 1),)


def letters(rows: int) -> torch.Tensor:
    return torch.randint(1, CLASSES, (rows, 2))


loss(
    "CTCLoss",
    letters,
    arguments=steps,
    make=Spoken,
    width=5 * CLASSES,
    blank=(0,),
    zero_infinity=(False, True),
    **REDUCTION,
)


# Losses that hold parameters are part of the model, which gets the target as data.


@dataclasses.dataclass(frozen=True)
class Head(Loss):
    """A loss with parameters of its own."""

    def case(self, choice: Choice) -> Case:
        options = dict(choice.options)
        target = self.targets[options.pop("target")]

        def build() -> tuple[nn.Module, Score]:
            return WithHead(self.make(**options)), lambda output, target: output.mean()

        def batch(rows: int) -> Batch:
            return [torch.randn(rows, FEATURES), target(rows)], no_target(rows)

        return Case(str(choice), build, batch)


class WithHead(nn.Module):
    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.before = nn.Linear(FEATURES, FEATURES)
        self.head = head

    def forward(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        made = self.head(self.before(x), target)
        return made if isinstance(made, torch.Tensor) else made.loss


def head(name: str, targets: Mapping[str, Callable[[int], torch.Tensor]], **options: Sequence[Any]) -> None:
    menu = Menu(name, {"target": tuple(targets), **options})
    if hasattr(nn, name):
        LOSSES[name] = Head(menu, getattr(nn, name), targets, as_it_is)


def counted(rows: int) -> torch.Tensor:
    """Classes, the first not 1: of a batch without one that counts, PyTorch's two ways make NaN and zeros."""
    found = classes(rows)
    found[0] = 0
    return found


head(
    "LinearCrossEntropyLoss",
    {"classes": counted, "shares": shares},
    in_features=(FEATURES,),
    num_classes=(CLASSES,),
    bias=(False, True),
    weight=(None, WEIGHTS),
    ignore_index=(None, 1),
    label_smoothing=(0.0, 0.1),
    options=(None, getattr(nn, "LinearCrossEntropyOptions", lambda: None)()),
    **REDUCTION,
)
head(
    "AdaptiveLogSoftmaxWithLoss",
    {"classes": classes},
    in_features=(FEATURES,),
    n_classes=(CLASSES,),
    cutoffs=((1,), (1, 2)),
    div_value=(4.0, 2.0),
    head_bias=(False, True),
)
