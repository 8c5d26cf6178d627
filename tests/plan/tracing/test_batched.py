"""`torch.func.vmap` and `torch.func.grad` in Plans: per-sample gradients, at any batch size."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedplan.errors import TraceError
from fedplan.plan import Plan, RandomStream, trace
from tests.plan.same_numbers import SameNumbers

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")  # eager PyTorch's, under vmap

STREAM = RandomStream(3)
Tensor = torch.Tensor


def check(function: Callable[..., list[Tensor]], batch: Callable[[int], list[Tensor]], *rest: Tensor) -> Plan:
    """A Plan that was traced for five rows does for other numbers of rows what eager PyTorch does."""
    plan = trace(function, *batch(5), *rest)
    assert [item.shape[0] for item in plan.inputs[: len(batch(1))] if item.shape] == [None] * len(batch(1))
    for rows in (4, 1, 9):
        given = batch(rows)
        drawn = plan.draw(STREAM, rows)
        if drawn:
            with SameNumbers(drawn):
                expected = function(*given, *rest)
        else:
            expected = function(*given, *rest)
        made = plan(*given, *(value.detach() for value in rest), random=STREAM)
        for ours, theirs in zip(made, expected, strict=True):
            scale = max(1.0, float(theirs.abs().max()))
            torch.testing.assert_close(ours, theirs.detach(), rtol=0, atol=1e-5 * scale)
    return plan


def clipped_gradients(model: nn.Module) -> Callable[..., list[Tensor]]:
    """The loss and the sum of the clipped gradients of each sample: a step of DP-SGD without its noise."""
    names = [name for name, _ in model.named_parameters()]

    def step(data: Tensor, target: Tensor, *parameters: Tensor) -> list[Tensor]:
        values = [value.detach() for value in parameters]

        def of_one(values: list[Tensor], sample: Tensor, label: Tensor) -> Tensor:
            made = torch.func.functional_call(
                model, dict(zip(names, values, strict=True)), (sample.unsqueeze(0),)
            )
            output = made[0][:, -1] if isinstance(made, tuple) else made
            return F.cross_entropy(output, label.unsqueeze(0))

        of_each = torch.func.vmap(torch.func.grad_and_value(of_one), (None, 0, 0), randomness="different")
        gradients, losses = of_each(values, data, target)
        norms = sum(g.flatten(1).square().sum(1) for g in gradients).sqrt()
        shares = (0.5 / (norms + 1e-6)).clamp(max=1.0)
        return [losses.mean(), *(torch.einsum("n,n...->...", shares, g) for g in gradients)]

    return step


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(8, 24), nn.Linear(40, 3)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (part.unsqueeze(1) for part in self.inner(x).chunk(3, -1))
        made = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.outer(made.flatten(1))


class Places(nn.Module):
    """Words and where they stand."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.outer = nn.Embedding(11, 8), nn.Linear(48, 3)
        self.places = nn.Parameter(torch.randn(7, 8))

    def forward(self, x: Tensor) -> Tensor:
        made = self.words(x) + self.places[: x.shape[1]]
        return self.outer(torch.cat([made, self.places[x[:, :1]]], 1).flatten(1))


def layers(*parts: nn.Module) -> nn.Sequential:
    return nn.Sequential(*parts)


def rows_of(*shape: int) -> Callable[[int], Tensor]:
    return lambda rows: torch.randn(rows, *shape)


def words(rows: int) -> Tensor:
    return torch.randint(0, 7, (rows, 5))


PICTURES, SERIES = rows_of(3, 8, 8), rows_of(5, 8)

MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]] = {
    "perceptron": (lambda: layers(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), rows_of(6)),
    "convolutions": (
        lambda: layers(
            nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, stride=2),
            nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(4, 3),
        ),
        PICTURES,
    ),
    "pools": (
        lambda: layers(
            nn.Conv2d(3, 4, 3), nn.AvgPool2d(2), nn.AdaptiveMaxPool2d(2), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(4, 3),
        ),
        PICTURES,
    ),
    "transposed convolution": (
        lambda: layers(
            nn.ConvTranspose2d(3, 4, 3, 2, 1, 1, groups=1), nn.AdaptiveAvgPool2d(3), nn.Flatten(),
            nn.Linear(36, 3),
        ),
        PICTURES,
    ),
    "groups and dilation": (
        lambda: layers(
            nn.Conv2d(3, 6, (3, 2), (2, 1), (1, 2), (1, 2), groups=3), nn.Flatten(), nn.Linear(240, 3)
        ),
        PICTURES,
    ),
    "convolution of series": (
        lambda: layers(nn.Conv1d(5, 4, 3, padding=1), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(16, 3)),
        SERIES,
    ),
    "convolution of volumes": (
        lambda: layers(nn.Conv3d(1, 2, 2), nn.MaxPool3d(2), nn.Flatten(), nn.Linear(2, 3)),
        rows_of(1, 3, 3, 3),
    ),
    "layer norm": (lambda: layers(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3)), rows_of(6)),
    "instance norm": (
        lambda: layers(nn.Conv2d(3, 4, 5), nn.InstanceNorm2d(4, affine=True), nn.Flatten(), nn.Linear(64, 3)),
        PICTURES,
    ),
    "batch norm that is frozen": (
        lambda: layers(nn.Conv2d(3, 4, 5), nn.BatchNorm2d(4).eval(), nn.Flatten(), nn.Linear(64, 3)), PICTURES
    ),
    "words": (Places, words),
    "bags of words": (lambda: layers(nn.EmbeddingBag(11, 6, mode="mean"), nn.Linear(6, 3)), words),
    "attention": (Attention, SERIES),
    "encoder": (
        lambda: layers(
            nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), nn.Flatten(),
            nn.Linear(40, 3),
        ),
        SERIES,
    ),
    "dropout": (lambda: layers(nn.Linear(6, 8), nn.Dropout(0.3), nn.Linear(8, 3)), rows_of(6)),
    "recurrence": (lambda: nn.LSTM(8, 3, batch_first=True), SERIES),
}  # fmt: skip


@pytest.mark.some(18)
@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_each_sample(name: str) -> None:
    make, data = MODELS[name]
    torch.manual_seed(0)
    model = make()
    check(
        clipped_gradients(model),
        lambda rows: [data(rows), torch.randint(0, 3, (rows,))],
        *model.parameters(),
    )


WEIGHT = torch.randn(6, 6)
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "glu": F.glu,
    "silu": F.silu,
    "softmax": lambda h: F.softmax(h, -1),
    "group norm": lambda h: F.group_norm(h.unsqueeze(-1), 2),
    "instance norm": lambda h: F.instance_norm(h.reshape(-1, 2, 3)),
    "batch norm": lambda h: F.batch_norm(h, torch.zeros(6), torch.ones(6)),
    "sorted": lambda h: h.sort(-1).values[:, :2],
    "greatest": lambda h: h.topk(2, -1).values,
    "slices": lambda h: h[:, torch.tensor([0, 2])] + h.index_select(1, torch.tensor([1, 1])),
    "parts": lambda h: h.split(2, -1)[1] * h[:, 1:3] + h[:, 2:3],
    "gathered": lambda h: h.gather(1, torch.tensor([[0, 1]]).expand(h.shape[0], 2)),
    "written": lambda h: torch.zeros_like(h).scatter(1, torch.tensor([[1, 0]]), h[:, :2]),
    "added": lambda h: torch.zeros_like(h).scatter_add(1, torch.tensor([[1, 1]]), h[:, :2]),
    "added by index": lambda h: torch.zeros_like(h).index_add(1, torch.tensor([1, 1]), h[:, :2]),
    "padded by reflection": lambda h: F.pad(h.unsqueeze(1), (1, 1), mode="reflect"),
    "patches": lambda h: F.unfold(h.reshape(-1, 1, 2, 3), 2),
    "shuffled": lambda h: F.pixel_shuffle(h.reshape(-1, 1, 2, 3).expand(-1, 4, -1, -1), 2),
    "enlarged": lambda h: F.interpolate(h.reshape(-1, 1, 2, 3), scale_factor=2),
    "enlarged bilinearly": lambda h: F.interpolate(h.reshape(-1, 1, 2, 3), size=(3, 5), mode="bilinear"),
    "longest in a window": lambda h: F.max_pool1d(h.unsqueeze(1), 2),
    "entropy": lambda h: F.binary_cross_entropy(h.sigmoid(), (h > 0).float()),
    "distances": lambda h: torch.cdist(h.reshape(-1, 2, 3), h.reshape(-1, 2, 3) + 1),
}


@pytest.mark.some(12)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_and_its_gradient_for_each_sample(name: str) -> None:
    function = FUNCTIONS[name]

    def of_each(data: Tensor, weight: Tensor) -> list[Tensor]:
        def of_one(weight: Tensor, sample: Tensor) -> Tensor:
            return function(sample.unsqueeze(0) @ weight).mean()

        gradients = torch.func.vmap(torch.func.grad(of_one), (None, 0))(weight.detach(), data)
        return [gradients.square().sum((1, 2)), gradients.sum(0)]

    check(of_each, lambda rows: [torch.randn(rows, 6)], WEIGHT)


def test_an_index_of_each_sample() -> None:
    check(
        lambda x, i: [torch.vmap(lambda row, at: row.index_select(0, at))(x, i)],
        lambda rows: [torch.randn(rows, 6, 2), torch.randint(0, 6, (rows, 3))],
    )


def test_dropout_between_recurrent_layers_is_refused_where_pytorch_loses_it() -> None:
    model = nn.LSTM(8, 3, num_layers=2, dropout=0.5, batch_first=True)
    with pytest.raises(TraceError, match="between its layers"):
        trace(clipped_gradients(model), SERIES(5), torch.randint(0, 3, (5,)), *model.parameters())
