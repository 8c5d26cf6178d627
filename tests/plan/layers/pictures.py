"""The layers of `torch.nn` that work on vectors, signals, pictures and volumes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tests.plan.layers.layer import (
    CHANNELS,
    FEATURES,
    NO_YES,
    PICTURE,
    SENTENCE,
    SEQUENCE,
    SPACES,
    SPAN,
    VOLUME,
    Table,
    first,
    of_two,
    positively,
)

PICTURES = Table()
layer, spatial = PICTURES.add, PICTURES.each

# Activations

IN_PLACE = {"inplace": NO_YES}

for name in ("ReLU", "ReLU6", "SELU", "SiLU", "Mish", "Hardsigmoid", "Hardswish"):
    layer(name, (FEATURES,), **IN_PLACE)
for name in ("LogSigmoid", "Sigmoid", "Softsign", "Tanh", "Tanhshrink", "Identity"):
    layer(name, (FEATURES,))
layer("ELU", (FEATURES,), alpha=(1.0, 0.5), **IN_PLACE)
layer("CELU", (FEATURES,), alpha=(1.0, 0.5), **IN_PLACE)
layer("GELU", (FEATURES,), approximate=("none", "tanh"))
layer("GLU", (FEATURES,), dim=(-1, 1))
layer("Hardshrink", (FEATURES,), lambd=(0.5, 0.1))
layer("Softshrink", (FEATURES,), lambd=(0.5, 0.1))
layer("Hardtanh", (FEATURES,), min_val=(-1.0, -0.3), max_val=(1.0, 0.4), **IN_PLACE)
layer("LeakyReLU", (FEATURES,), negative_slope=(0.01, 0.3), **IN_PLACE)
layer("PReLU", PICTURE, num_parameters=(1, CHANNELS), init=(0.25, 0.1))
layer("RReLU", (FEATURES,), lower=(0.125, 0.3), upper=(1 / 3, 0.3), **IN_PLACE)
layer("Softplus", (FEATURES,), beta=(1.0, 2.0), threshold=(20.0, 0.5))
layer("Threshold", (FEATURES,), threshold=(0.1, -0.2), value=(0.5, 0.0), **IN_PLACE)
layer("Softmax", SENTENCE, dim=(-1, 1, 2))
layer("Softmin", SENTENCE, dim=(-1, 1, 2))
layer("LogSoftmax", SENTENCE, dim=(-1, 1, 2))
layer("Softmax2d", PICTURE)

# Linear layers, shapes

layer("Linear", (FEATURES,), in_features=(FEATURES,), out_features=(5, 1), bias=(True, False))
layer(
    "Bilinear",
    (FEATURES,),
    in1_features=(2,),
    in2_features=(4,),
    out_features=(5, 1),
    bias=(True, False),
    call=lambda layer, x: layer(x[:, :2], x[:, 2:]),
)
layer("Flatten", PICTURE, start_dim=(1, 2), end_dim=(-1, 2))
layer("Unflatten", (FEATURES,), dim=(1, -1), unflattened_size=((2, 3), (3, -1), (1, 6)))
layer("PixelShuffle", (CHANNELS, SPAN, SPAN), upscale_factor=(2, 1))
layer("PixelUnshuffle", (CHANNELS, range(6, 7), range(6, 7)), downscale_factor=(2, 3, 1))
layer("ChannelShuffle", PICTURE, groups=(2, 4, 1))
layer("Unfold", PICTURE, kernel_size=(2, (3, 2)), dilation=(1, 2), padding=(0, 1), stride=(1, 2, (2, 1)))


def cut_and_joined(**options: Any) -> nn.Module:
    cut, size = nn.Unfold(**options), (6, 6)
    return nn.ModuleDict({"cut": cut, "join": nn.Fold(size, **options)})


layer(
    "Fold",
    (CHANNELS, 6, 6),
    kernel_size=(2, (3, 2)),
    dilation=(1, 2),
    padding=(0, 1),
    stride=(1, 2, (2, 1)),
    make=cut_and_joined,
    call=lambda layer, x: layer["join"](layer["cut"](x)),
)
layer("CosineSimilarity", (2, FEATURES), dim=(1, -1), eps=(1e-8, 1e-2), call=of_two)
layer(
    "PairwiseDistance",
    (2, FEATURES),
    p=(2.0, 1.0, 3.0, float("inf")),
    eps=(1e-6, 1e-2),
    keepdim=NO_YES,
    call=of_two,
)

# Convolutions

MODES = ("zeros", "reflect", "replicate", "circular")
for dims, shape in SPACES.items():
    pads = {"padding": (0, 1, "same", "valid", (1,) + (0,) * (dims - 1))}
    steps = {"kernel_size": (3, 2, 1), "stride": (1, 2), "dilation": (1, 2), "bias": (True, False)}
    there = {**steps, **pads, "padding_mode": MODES}
    back = {**steps, "padding": (0, 1), "output_padding": (0, 1)}
    for lazy in ("", "Lazy"):
        into = {} if lazy else {"in_channels": (CHANNELS,)}
        layer(f"{lazy}Conv{dims}d", shape, **into, out_channels=(4, 8), groups=(1, 2, 4), **there)
        layer(f"{lazy}ConvTranspose{dims}d", shape, **into, out_channels=(4, 8), groups=(1, 2, 4), **back)

# Pools

spatial(
    "AvgPool{}d",
    kernel_size=(2, 3),
    stride=(None, 1, 2),
    padding=(0, 1),
    ceil_mode=NO_YES,
    count_include_pad=(True, False),
)
for dims in (2, 3):
    menu = PICTURES[f"AvgPool{dims}d"].menu
    layer(f"AvgPool{dims}d", SPACES[dims], **menu.options, divisor_override=(None, 3))
spatial(
    "MaxPool{}d",
    kernel_size=(2, 3),
    stride=(None, 1, 2),
    padding=(0, 1),
    dilation=(1, 2),
    return_indices=NO_YES,
    ceil_mode=NO_YES,
    call=first,
)
spatial(
    "LPPool{}d",
    norm_type=(2.0, 1.0, 3.0),
    kernel_size=(2, 3),
    stride=(None, 1, 2),
    ceil_mode=NO_YES,
    call=positively,
)
spatial("AdaptiveAvgPool{}d", output_size=(2, 1, 3, 4))
spatial("AdaptiveMaxPool{}d", output_size=(2, 1, 3, 4), return_indices=NO_YES, call=first)
for dims in (2, 3):
    layer(f"AdaptiveAvgPool{dims}d", SPACES[dims], output_size=(2, 1, 3, 4, (None, *(2,) * (dims - 1))))
    size = {"output_size": (2, 3, None), "output_ratio": (None, 0.5)}
    layer(
        f"FractionalMaxPool{dims}d",
        SPACES[dims],
        kernel_size=(2, 3),
        **size,
        return_indices=NO_YES,
        call=first,
    )


def there_and_back(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Pools, then puts each maximum back where it was."""
    return layer["unpool"](*layer["pool"](x), output_size=x.shape[2:])


def unpooling(dims: int) -> Callable[..., nn.Module]:
    def make(**options: Any) -> nn.Module:
        pool = getattr(nn, f"MaxPool{dims}d")(**options, return_indices=True)
        return nn.ModuleDict({"pool": pool, "unpool": getattr(nn, f"MaxUnpool{dims}d")(**options)})

    return make


for dims, shape in SPACES.items():
    layer(
        f"MaxUnpool{dims}d",
        shape,
        kernel_size=(2, 3),
        stride=(None, 2),
        padding=(0, 1),
        make=unpooling(dims),
        call=there_and_back,
    )

# Padding

spatial("ZeroPad{}d", padding=(1, 2))
spatial("ConstantPad{}d", padding=(1, 2), value=(0.5, 0.0))
spatial("ReflectionPad{}d", padding=(1, 2))
spatial("ReplicationPad{}d", padding=(1, 2))
spatial("CircularPad{}d", padding=(1, 2))
for kind in ("Zero", "Constant", "Reflection", "Replication", "Circular"):
    for dims, shape in SPACES.items():
        uneven = tuple(range(2 * dims))[::-1] if dims < 3 else (2, 0, 1, 1, 0, 1)
        menu = PICTURES[f"{kind}Pad{dims}d"].menu
        layer(f"{kind}Pad{dims}d", shape, **{**menu.options, "padding": (1, 2, uneven)})

# Larger pictures


def resized(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """One, two or three dimensions, as the mode has it."""
    if layer.mode == "linear":
        return layer(x.flatten(2))
    return layer(x.unsqueeze(2) if layer.mode == "trilinear" else x)


layer(
    "Upsample",
    PICTURE,
    size=(None, 9, (9, 5)),
    scale_factor=(2, 1.5, (2, 3), 0.5, None),
    mode=("nearest", "bilinear", "bicubic", "nearest-exact", "linear", "trilinear"),
    align_corners=(None, True, False),
    recompute_scale_factor=(None, True),
    call=resized,
)
layer("UpsamplingNearest2d", PICTURE, size=(None, 9, (9, 5)), scale_factor=(2, 3, None))
layer("UpsamplingBilinear2d", PICTURE, size=(None, 9, (9, 5)), scale_factor=(2, 3, None))

# Normalisation

AFFINE = {"affine": (True, False), "eps": (1e-5, 1e-2)}
TRACKED = {"momentum": (0.1, 0.4, None), "track_running_stats": (True, False)}
for dims, shape in SPACES.items():
    options = {**AFFINE, **TRACKED, "bias": (True, False)}
    layer(f"BatchNorm{dims}d", shape, num_features=(CHANNELS,), **options)
    layer(f"LazyBatchNorm{dims}d", shape, **options)
    options = {
        "affine": NO_YES,
        "eps": (1e-5, 1e-2),
        "momentum": (0.1, 0.4),
        "track_running_stats": NO_YES,
        "bias": (True, False),
    }
    layer(f"InstanceNorm{dims}d", shape, num_features=(CHANNELS,), **options)
    layer(f"LazyInstanceNorm{dims}d", shape, **options)
layer("GroupNorm", PICTURE, num_groups=(2, 1, 4), num_channels=(CHANNELS,), bias=(True, False), **AFFINE)
layer(
    "LayerNorm",
    SENTENCE,
    normalized_shape=(FEATURES, SENTENCE),
    eps=(1e-5, 1e-2),
    elementwise_affine=(True, False),
    bias=(True, False),
)
layer(
    "RMSNorm",
    SENTENCE,
    normalized_shape=(FEATURES, SENTENCE),
    eps=(None, 1e-2),
    elementwise_affine=(True, False),
)
layer("LocalResponseNorm", PICTURE, size=(2, 3), alpha=(1e-4, 0.5), beta=(0.75, 0.5), k=(1.0, 2.0))
layer("CrossMapLRN2d", PICTURE, size=(3, 1), alpha=(1e-4, 0.5), beta=(0.75, 0.5), k=(1, 2))

# Dropout

for name, shape in {
    "Dropout": (FEATURES,),
    "AlphaDropout": (FEATURES,),
    "Dropout1d": SEQUENCE,
    "Dropout2d": PICTURE,
    "Dropout3d": VOLUME,
    "FeatureAlphaDropout": PICTURE,
}.items():
    layer(name, shape, p=(0.5, 0.2, 0.0), **IN_PLACE)

layer("LazyLinear", (FEATURES,), out_features=(5, 1), bias=(True, False))
layer("Sequential", (FEATURES,), make=lambda: nn.Sequential(nn.Linear(FEATURES, 5), nn.Tanh()))
