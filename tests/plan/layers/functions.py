"""The functions of `torch.nn.functional` that no layer calls, or calls in one form only."""

from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.nn import functional as F

from tests.plan.layers.cases import Case, Menu
from tests.plan.layers.layer import CHANNELS, FEATURES, PICTURE, SENTENCE, SEQUENCE, STEPS, Extents, Layer

FUNCTIONS: dict[str, Layer] = {}
"""By the function's name, behind which a form may stand."""


def function(
    name: str,
    shape: Extents,
    call: Callable[..., torch.Tensor],
    *,
    weight: tuple[int, ...] | None = None,
    words: int | None = None,
) -> None:
    """Lists a form of a function.

    Args:
        name: of the function, and what the form is.
        shape: extents of one sample.
        call: makes something that has the batch first of samples, and of a parameter if it has one.
        weight: shape of the parameter.
        words: the samples are numbers of words below this.
    """
    menu = Menu(name, {}, shape)
    if weight is None:
        FUNCTIONS[name] = Layer(menu, nn.Identity, lambda layer, x: call(x), words)
    else:
        FUNCTIONS[name] = Layer(menu, lambda: Weight(weight), lambda layer, x: call(x, layer.weight), words)


class Weight(nn.Module):
    """A parameter, and nothing that is done with it."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape))


# Activations

for in_place in (F.relu_, F.elu_, F.celu_, F.selu_, F.hardtanh_, F.leaky_relu_, F.rrelu_):
    function(in_place.__name__, (FEATURES,), lambda x, call=in_place: call(x))  # type: ignore[misc]
for plain in (F.relu6, F.sigmoid, F.tanh):
    function(plain.__name__, (FEATURES,), plain)
function("threshold_", (FEATURES,), lambda x: F.threshold_(x, 0.1, 0.5))
function("rrelu_ in training", (FEATURES,), lambda x: F.rrelu_(x, training=True))

# Chance

function("dropout, not in training", (FEATURES,), lambda x: F.dropout(x, 0.5, training=False))
function("dropout of every number", (FEATURES,), lambda x: F.dropout(x, 1.0))
function("gumbel_softmax", SENTENCE, lambda x: F.gumbel_softmax(x, tau=0.7))
function("gumbel_softmax, hard", SENTENCE, lambda x: F.gumbel_softmax(x, hard=True, dim=1))

# Attention

function("scaled_dot_product_attention", SENTENCE, lambda x: F.scaled_dot_product_attention(x, x, x))
function(
    "scaled_dot_product_attention, causal",
    SENTENCE,
    lambda x: F.scaled_dot_product_attention(x, x * 2, x, is_causal=True, scale=0.3),
)
function(
    "scaled_dot_product_attention, masked, with dropout",
    SENTENCE,
    lambda x: F.scaled_dot_product_attention(x, x, x, torch.eye(STEPS) > 0, 0.2),
)


def grouped(x: torch.Tensor) -> torch.Tensor:
    heads = x.unflatten(2, (2, 3)).transpose(1, 2)  # (batch, 2, steps, 3)
    return F.scaled_dot_product_attention(heads, heads[:, :1], heads[:, :1], enable_gqa=True)


function("scaled_dot_product_attention, of groups", SENTENCE, grouped)

# Pictures

for mode in ("constant", "reflect", "replicate", "circular"):
    function(f"pad, {mode}", PICTURE, lambda x, mode=mode: F.pad(x, (1, 2, 0, 1), mode))  # type: ignore[misc]
function("pad, cut off", PICTURE, lambda x: F.pad(x, (-1, 1, 1, -2), value=0.3))
function("upsample", PICTURE, lambda x: F.upsample(x, scale_factor=2))
function("upsample_bilinear", PICTURE, lambda x: F.upsample_bilinear(x, (9, 5)))
function("upsample_nearest", PICTURE, lambda x: F.upsample_nearest(x, (9, 5)))
function("interpolate, area", PICTURE, lambda x: F.interpolate(x, (4, 3), mode="area"))
function(
    "interpolate, smoothed",
    PICTURE,
    lambda x: F.interpolate(x, (3, 4), mode="bilinear", antialias=True),
)
function("max_pool2d of rows", PICTURE, lambda x: F.max_pool2d(x.flatten(0, 1), 2).unflatten(0, (-1, 4)))


def over_steps(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    made = F.conv_tbc(x.transpose(0, 1).contiguous(), weight, weight[0, 0].clone())  # (steps, batch, 5)
    return torch.cat([step * 1 for step in made.unbind(0)], 1)


function("conv_tbc", SENTENCE, over_steps, weight=(2, FEATURES, 5))


def turned(mode: str, padding: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    def call(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        turn = weight + 0.1 * x.mean((1, 2, 3)).reshape(-1, 1, 1)  # (batch, 2, 3)
        grid = F.affine_grid(turn, [x.shape[0], 1, 5, 4], align_corners=mode == "bicubic")
        return F.grid_sample(x, grid, mode, padding, align_corners=mode == "bicubic")

    return call


function("affine_grid", PICTURE, weight=(2, 3), call=turned("bilinear", "zeros"))
function("grid_sample", PICTURE, weight=(2, 3), call=turned("bilinear", "border"))
function("grid_sample, reflected", PICTURE, weight=(2, 3), call=turned("bilinear", "reflection"))
function("grid_sample, nearest", PICTURE, weight=(2, 3), call=turned("nearest", "zeros"))
function("grid_sample, bicubic", PICTURE, weight=(2, 3), call=turned("bicubic", "border"))

# Norms without parameters, or with statistics of one batch

function("normalize", SENTENCE, F.normalize)
function("normalize, other norm", SENTENCE, lambda x: F.normalize(x, p=1, dim=2, eps=0.1))
function("layer_norm", SENTENCE, lambda x: F.layer_norm(x, (FEATURES,)))
function("rms_norm", SENTENCE, lambda x: F.rms_norm(x, (FEATURES,)))
function("group_norm", PICTURE, lambda x: F.group_norm(x, 2))
function("instance_norm", PICTURE, F.instance_norm)
function("batch_norm", SEQUENCE, lambda x: F.batch_norm(x, None, None, training=True))
function(
    "batch_norm, of given statistics",
    SEQUENCE,
    weight=(2, CHANNELS),
    call=lambda x, w: F.batch_norm(x, torch.zeros(CHANNELS), torch.full((CHANNELS,), 2.0), w[0], w[1]),
)
function("prelu", PICTURE, weight=(CHANNELS,), call=F.prelu)

# Words

function("embedding", (STEPS,), weight=(7, 4), call=lambda x, w: F.embedding(x, w, 2, 1.0), words=7)


def bags(x: torch.Tensor, weight: torch.Tensor, mode: str) -> torch.Tensor:
    """Bags of three words that lie one after the other."""
    offsets = torch.arange(x.shape[0]) * STEPS
    shares = torch.linspace(0.5, 1, STEPS).expand(x.shape).flatten() if mode == "sum" else None
    return F.embedding_bag(x.flatten(), weight, offsets, mode=mode, per_sample_weights=shares)


for mode in ("sum", "mean", "max"):
    function(
        f"embedding_bag, {mode}", (STEPS,), weight=(7, 4), call=lambda x, w, m=mode: bags(x, w, m), words=7
    )  # type: ignore[misc]
function("one_hot", (STEPS,), lambda x: F.one_hot(x, 7).float(), words=7)

# Distances

function("pdist", (FEATURES,), lambda x: x * F.pdist(x).mean())
function(
    "cosine_similarity", (FEATURES,), lambda x: F.cosine_similarity(x.unsqueeze(1), x[:1].unsqueeze(0), 2)
)
function("pairwise_distance", (FEATURES,), lambda x: F.pairwise_distance(x, x[:1] + 1).unsqueeze(1))

# Losses of a part of a model, with forms that no layer has


def as_feature(loss: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: x * loss(x)


HALF = torch.full((FEATURES,), 0.5)
function(
    "mse_loss, weighed", (FEATURES,), as_feature(lambda x: F.mse_loss(x, x * 0.5 + 1, weight=x.detach() ** 2))
)
function(
    "l1_loss, weighed", (FEATURES,), as_feature(lambda x: F.l1_loss(x, x * 0.5 + 1, weight=x.detach() ** 2))
)
function(
    "huber_loss, weighed", (FEATURES,), as_feature(lambda x: F.huber_loss(x, -x, weight=x.detach() ** 2))
)
function(
    "kl_div",
    (FEATURES,),
    as_feature(lambda x: F.kl_div(x.log_softmax(1), x.softmax(1), reduction="batchmean")),
)
function(
    "binary_cross_entropy",
    (FEATURES,),
    as_feature(lambda x: F.binary_cross_entropy(x.sigmoid(), x.sigmoid(), HALF)),
)
function(
    "cross_entropy of one sample",
    (FEATURES,),
    as_feature(lambda x: F.cross_entropy(x.mean(0), torch.tensor(2))),
)

NOT_TRIED: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "assert_int_or_pair", "boolean_dispatch", "handle_torch_function", "has_torch_function",
            "has_torch_function_unary", "has_torch_function_variadic",
        ),
        "helps to write functions",
    ),
    **dict.fromkeys(
        ("grouped_mm", "native_channel_shuffle", "scaled_grouped_mm", "scaled_mm"), "has no gradient on a CPU"
    ),
}  # fmt: skip
"""Functions that are not tried, with the reason."""


def case(name: str) -> Case:
    """The model in which a form of a function is tried."""
    return FUNCTIONS[name].case(FUNCTIONS[name].menu.plain())
