"""Layers of many kinds: a step with each of them equals eager PyTorch, at any batch size."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import orthogonal

from fedplan.errors import TraceError, UnsupportedOpError
from fedplan.plan import trace, training_plan
from tests.plan.tracing.agreement import Batch, check_function, check_training


def of(*shape: int) -> Batch:
    return lambda rows: (torch.randn(rows, *shape), torch.zeros(rows))


def after_convolution(layer: nn.Module, rank: int, channels: int = 4) -> nn.Module:
    """A layer without weights gets a gradient only when something before it has some."""
    convolution: type[nn.Module] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[rank]
    return nn.Sequential(convolution(2, channels, 3, padding=1), layer)


SIDES = {1: (2, 12), 2: (2, 8, 7), 3: (2, 6, 5, 7)}
"""Channels and extents of a series, a picture and a volume."""

POOLS: dict[str, tuple[int, Callable[[], nn.Module]]] = {
    "max 1": (1, lambda: nn.MaxPool1d(3, 2, 1, ceil_mode=True)),
    "max 2": (2, lambda: nn.MaxPool2d((3, 2), 2, 1, dilation=(1, 2))),
    "max 3": (3, lambda: nn.MaxPool3d(2)),
    "max 3 with all settings": (3, lambda: nn.MaxPool3d((3, 2, 3), (2, 1, 2), 1, ceil_mode=True)),
    "average 1": (1, lambda: nn.AvgPool1d(3, 2, 1, count_include_pad=False)),
    "average 2": (2, lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, divisor_override=4)),
    "average 3": (3, lambda: nn.AvgPool3d((2, 3, 2), 2, (1, 1, 0))),
    "LP 1": (1, lambda: nn.LPPool1d(2, 3)),
    "LP 2": (2, lambda: nn.LPPool2d(2, 2, ceil_mode=True)),
    "LP 3": (3, lambda: nn.LPPool3d(2, 2)),
    "adaptive average 1": (1, lambda: nn.AdaptiveAvgPool1d(5)),
    "adaptive average 2": (2, lambda: nn.AdaptiveAvgPool2d((3, None))),
    "adaptive average 3": (3, lambda: nn.AdaptiveAvgPool3d((4, 3, 2))),
    "adaptive average 3, one": (3, lambda: nn.AdaptiveAvgPool3d(1)),
    "adaptive max 1": (1, lambda: nn.AdaptiveMaxPool1d(5)),
    "adaptive max 2": (2, lambda: nn.AdaptiveMaxPool2d((3, 9))),
    "adaptive max 3": (3, lambda: nn.AdaptiveMaxPool3d((4, 3, 2))),
}


@pytest.mark.some(12)
@pytest.mark.parametrize("name", POOLS)
def test_pools(name: str) -> None:
    rank, make = POOLS[name]
    torch.manual_seed(0)
    check_training(lambda: after_convolution(make(), rank), of(*SIDES[rank]))


@pytest.mark.parametrize(
    ("extents", "kernel", "counts"),
    [
        ((9,), (2,), (4,)),
        ((8, 7), (2, 3), (3, 5)),
        ((8, 7), (3, 1), (1, 4)),
        ((7, 6, 9), (2, 3, 1), (4, 2, 5)),
    ],
)
def test_a_fractional_pool_is_pytorchs(
    extents: tuple[int, ...], kernel: tuple[int, ...], counts: tuple[int, ...]
) -> None:
    rank = len(extents)
    if rank == 1:  # PyTorch has none; a picture of one row is one
        extents, kernel, counts, rank = (1, *extents), (1, *kernel), (1, *counts), 2
    pool = {2: torch.ops.aten.fractional_max_pool2d, 3: torch.ops.aten.fractional_max_pool3d}[rank]

    def both(x: torch.Tensor, draws: torch.Tensor) -> Any:
        return pool(x, kernel, counts, draws)

    torch.manual_seed(0)
    check_function(both, lambda rows: (torch.randn(rows, 3, *extents), torch.rand(rows, 3, rank)))


def test_a_fractional_pool_whose_windows_do_not_fit_is_refused() -> None:
    pool = nn.FractionalMaxPool2d(3, output_size=6)
    with pytest.raises(
        TraceError, match=r"test_layers\.py:\d+ in FractionalMaxPool2d: 6 windows of 3 do not fit"
    ):
        trace(pool, torch.randn(2, 3, 7, 9))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_gradient_of_repeated_edges_can_be_viewed_otherwise(rank: int) -> None:
    pad = getattr(nn, f"ReplicationPad{rank}d")(1)
    model = lambda: nn.Sequential(nn.Linear(5, 5), pad)  # noqa: E731  # whose gradient is flattened
    check_training(model, of(2, *[4] * (rank - 1), 5))


class Unpooling(nn.Module):
    def __init__(self, rank: int) -> None:
        super().__init__()
        kinds: dict[int, tuple[Any, Any]] = {
            1: (nn.MaxPool1d, nn.MaxUnpool1d),
            2: (nn.MaxPool2d, nn.MaxUnpool2d),
            3: (nn.MaxPool3d, nn.MaxUnpool3d),
        }
        self.before = after_convolution(nn.Identity(), rank)
        self.pool, self.unpool = (
            kind(2, **more) for kind, more in zip(kinds[rank], ({"return_indices": True}, {}), strict=True)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.before(x)
        pooled, places = self.pool(x)
        return self.unpool(pooled * 2, places, output_size=x.shape)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_pools_are_undone(rank: int) -> None:
    torch.manual_seed(0)
    check_training(lambda: Unpooling(rank), of(*SIDES[rank]))


@pytest.mark.parametrize("mode", ["Reflection", "Replication", "Circular", "Zero", "Constant"])
@pytest.mark.some(12)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_edges_are_padded(mode: str, rank: int) -> None:
    torch.manual_seed(0)
    sides = (2, 1, 3, 0, 1, 2)[: 2 * rank]
    more = {"value": 1.5} if mode == "Constant" else {}
    layer = getattr(nn, f"{mode}Pad{rank}d")(sides, **more)
    check_training(lambda: after_convolution(layer, rank), of(*SIDES[rank]), rows=(3, 1))


@pytest.mark.some(6)
@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_convolutions_pad_their_edges(mode: str, rank: int) -> None:
    torch.manual_seed(0)
    kind: Any = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[rank]
    check_training(
        lambda: nn.Sequential(
            kind(2, 3, 3, padding=1, padding_mode=mode), kind(3, 2, 3, padding=1, padding_mode=mode)
        ),
        of(*SIDES[rank]),
        rows=(3, 1),
    )


def test_edges_that_are_cut_off_and_repeated() -> None:
    check_training(
        lambda: after_convolution(nn.ReplicationPad2d((-1, 2, 1, -2)), 2), of(*SIDES[2]), rows=(3, 1)
    )


INTERPOLATIONS: dict[str, tuple[int, dict[str, Any]]] = {
    "nearest 1": (1, {"scale_factor": 2}),
    "nearest 2": (2, {"size": (5, 11)}),
    "nearest 3": (3, {"scale_factor": 1.5}),
    "nearest-exact 1": (1, {"scale_factor": 0.6, "mode": "nearest-exact"}),
    "nearest-exact 2": (2, {"scale_factor": (2, 1.5), "mode": "nearest-exact"}),
    "nearest-exact 3": (3, {"size": (4, 7, 9), "mode": "nearest-exact"}),
    "linear": (1, {"scale_factor": 1.7, "mode": "linear"}),
    "linear, corners": (1, {"size": 20, "mode": "linear", "align_corners": True}),
    "bilinear": (2, {"scale_factor": 2, "mode": "bilinear"}),
    "bilinear, corners": (2, {"size": (3, 15), "mode": "bilinear", "align_corners": True}),
    "bilinear, smoothed": (2, {"size": (3, 4), "mode": "bilinear", "antialias": True}),
    "bilinear, scale computed again": (
        2,
        {"scale_factor": 1.3, "mode": "bilinear", "recompute_scale_factor": True},
    ),
    "bicubic": (2, {"scale_factor": 2, "mode": "bicubic"}),
    "bicubic, corners": (2, {"size": (5, 15), "mode": "bicubic", "align_corners": True}),
    "bicubic, smoothed": (2, {"size": (3, 4), "mode": "bicubic", "antialias": True}),
    "trilinear": (3, {"scale_factor": 2, "mode": "trilinear"}),
    "area 1": (1, {"size": 5, "mode": "area"}),
    "area 2": (2, {"scale_factor": 0.5, "mode": "area"}),
    "area 3": (3, {"size": (3, 3, 2), "mode": "area"}),
}


class Interpolation(nn.Module):
    def __init__(self, rank: int, **settings: Any) -> None:
        super().__init__()
        self.before = after_convolution(nn.Identity(), rank)
        self.settings = settings

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(self.before(x), **self.settings)


@pytest.mark.some(12)
@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_interpolations(name: str) -> None:
    rank, settings = INTERPOLATIONS[name]
    torch.manual_seed(0)
    plan = check_training(lambda: Interpolation(rank, **settings), of(*SIDES[rank]))
    kernels = [node.op for node in plan.graph.nodes if "upsample" in node.op or "pool" in node.op]
    assert len(kernels) == 2  # one forward, one backward


class Sampler(nn.Module):
    """A spatial transformer: where it looks is learnt."""

    def __init__(self, rank: int, **settings: Any) -> None:
        super().__init__()
        self.before = after_convolution(nn.Identity(), rank)
        self.turn = nn.Parameter(torch.eye(rank, rank + 1) + torch.randn(rank, rank + 1) * 0.2)
        self.settings = settings

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.before(x)
        turns = self.turn.expand(x.shape[0], -1, -1)
        corners = self.settings.get("align_corners", False)
        grid = F.affine_grid(turns, list(x.shape), align_corners=corners)
        return F.grid_sample(x, grid, **({"align_corners": corners} | self.settings))


@pytest.mark.some(6)
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize(("rank", "mode"), [(2, "bilinear"), (2, "nearest"), (2, "bicubic"), (3, "bilinear")])
def test_sampling_at_places_that_are_learnt(rank: int, mode: str, padding_mode: str) -> None:
    torch.manual_seed(0)
    settings = {"mode": mode, "padding_mode": padding_mode, "align_corners": rank == 3}
    check_training(lambda: Sampler(rank, **settings), of(*SIDES[rank]), rows=(3, 1), tolerance=3e-5)


REARRANGEMENTS: dict[str, Callable[[], nn.Module]] = {
    "pixel shuffle": lambda: nn.PixelShuffle(2),
    "pixel unshuffle": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.PixelUnshuffle(2)),
    "channel shuffle": lambda: nn.ChannelShuffle(2),
    "unfold": lambda: nn.Unfold((3, 2), stride=2, padding=1, dilation=(1, 2)),
    "fold": lambda: nn.Sequential(nn.Unfold(3, padding=1), nn.Fold((8, 7), 3, padding=1)),
    "local response": lambda: nn.LocalResponseNorm(3),
    "cross-channel softmax": nn.Softmax2d,
}


@pytest.mark.some(6)
@pytest.mark.parametrize("name", REARRANGEMENTS)
def test_rearrangements_of_pictures(name: str) -> None:
    torch.manual_seed(0)
    check_training(lambda: after_convolution(REARRANGEMENTS[name](), 2), of(*SIDES[2]))


def old_weight_norm() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.Sequential(
            nn.utils.weight_norm(nn.Conv1d(2, 4, 3)), nn.utils.weight_norm(nn.Conv1d(4, 2, 3), dim=None)
        )


NORMS: dict[str, Callable[[], nn.Module]] = {
    "weight norm of old": old_weight_norm,
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Conv1d(2, 4, 3)),
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Conv1d(2, 4, 3)),
    "spectral norm of old": lambda: nn.utils.spectral_norm(nn.Conv1d(2, 4, 3)),
    "orthogonal": lambda: nn.Sequential(
        nn.Conv1d(2, 4, 3), orthogonal(nn.Linear(10, 6), orthogonal_map="householder")
    ),
    "orthogonal by Cayley's map": lambda: nn.Sequential(
        nn.Conv1d(2, 4, 3), orthogonal(nn.Linear(10, 10), orthogonal_map="cayley")
    ),
    "orthogonal by an exponential": lambda: nn.Sequential(
        nn.Conv1d(2, 4, 3), orthogonal(nn.Linear(10, 10), orthogonal_map="matrix_exp")
    ),
}


@pytest.mark.some(4)
@pytest.mark.parametrize("name", NORMS)
def test_weights_that_are_made_from_others(name: str) -> None:
    torch.manual_seed(0)
    check_training(NORMS[name], of(*SIDES[1]))


class Words(nn.Module):
    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(9, 4, **settings)
        self.weighted = settings.get("mode") == "sum"

    def forward(self, words: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return self.bag(words, per_sample_weights=weights if self.weighted else None)


def bags(rows: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    words = torch.randint(0, 9, (rows, 5))
    words[0] = 2  # a bag of padding alone, where 2 is padding
    return [words, torch.rand(rows, 5)], torch.zeros(rows)


@pytest.mark.parametrize("padding_idx", [None, 2])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_of_words_of_one_length(mode: str, padding_idx: int | None) -> None:
    torch.manual_seed(0)
    check_training(lambda: Words(mode=mode, padding_idx=padding_idx), bags)


def test_bags_are_not_scaled_by_frequency_as_pytorch_does_it() -> None:
    words = torch.tensor([[0, 2, 0]])
    weight = torch.zeros(3, 1, requires_grad=True)
    F.embedding_bag(words, weight, mode="sum", scale_grad_by_freq=True).sum().backward()
    assert weight.grad is not None
    assert weight.grad.flatten().tolist() == [1.0, 0.0, 0.5]  # and not 2/2, 0, 1/1: then this can be allowed
    bag = nn.Sequential(nn.EmbeddingBag(9, 4, mode="sum", scale_grad_by_freq=True), nn.Linear(4, 3))
    with pytest.raises(UnsupportedOpError, match=r"in 0: EmbeddingBag.*nn\.Embedding\(…, scale_grad_by_freq"):
        training_plan(bag, F.cross_entropy, example=(words.repeat(4, 1), torch.zeros(4, dtype=torch.int64)))


class Sentences(nn.Module):
    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(9, 4, **settings)

    def forward(self, words: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        return self.bag(words, starts)


@pytest.mark.parametrize("include_last_offset", [False, True])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_of_words_one_after_the_other(mode: str, include_last_offset: bool) -> None:
    def batch(rows: int) -> tuple[list[torch.Tensor], torch.Tensor]:
        starts = torch.tensor([0, 2, 2, 5, 3 * rows] if include_last_offset else [0, 2, 2, 5])
        return [torch.randint(0, 9, (3 * rows,)), starts], torch.zeros(4)

    torch.manual_seed(0)
    settings = {"mode": mode, "padding_idx": 3, "include_last_offset": include_last_offset}
    check_training(lambda: Sentences(**settings), batch, rows=(4, 6))


@pytest.mark.parametrize(
    "settings",
    [{"sparse": True}, {"max_norm": 0.5}, {"scale_grad_by_freq": True}, {"padding_idx": 0}],
    ids=lambda settings: next(iter(settings)),
)
def test_embeddings(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    check_training(
        lambda: nn.Embedding(9, 4, **settings),
        lambda rows: (torch.randint(0, 9, (rows, 3)), torch.zeros(rows)),
    )


class Distances(nn.Module):
    def __init__(
        self, measure: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], centres: int = 6
    ) -> None:
        super().__init__()
        self.before = nn.Linear(6, 5)
        self.centres = nn.Parameter(torch.randn(centres, 5))
        self.measure = measure

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.measure(self.before(x), self.centres)


def _pairs(x: torch.Tensor, places: Callable[..., torch.Tensor], offset: int) -> torch.Tensor:
    first, second = places(x.shape[0], x.shape[0], offset)
    return ((x[first] - x[second]).square().sum(1) * torch.arange(1.0, first.shape[0] + 1)).sum() * 1e-3


MEASURES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    **{f"cdist {p}": functools.partial(torch.cdist, p=p) for p in (1.0, 2.0, 3.0, torch.inf, 0.0)},
    "cdist by products": functools.partial(torch.cdist, compute_mode="use_mm_for_euclid_dist"),
    "pdist": lambda x, c: F.pdist(torch.cat([x, c])),
    "pairs above the diagonal": lambda x, c: _pairs(x, torch.triu_indices, 1) + c.sum(),
    "pairs below the diagonal": lambda x, c: _pairs(x, torch.tril_indices, -1) + c.sum(),
    "pairwise": lambda x, c: F.pairwise_distance(x, c[0], p=1.5),
    "cosine": lambda x, c: F.cosine_similarity(x.unsqueeze(1), c, dim=-1),
}


@pytest.mark.parametrize("name", MEASURES)
def test_distances(name: str) -> None:
    torch.manual_seed(0)
    check_training(lambda: Distances(MEASURES[name]), of(6), rows=(4, 40, 1))


def test_distances_to_many_centres_round_as_pytorchs_do() -> None:
    torch.manual_seed(0)
    check_training(lambda: Distances(torch.cdist, centres=30), of(6), rows=(4, 40, 1))


class Both(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Bilinear(6, 6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x, x.flip(1))


def test_a_bilinear_layer() -> None:
    torch.manual_seed(0)
    check_training(Both, of(6))
