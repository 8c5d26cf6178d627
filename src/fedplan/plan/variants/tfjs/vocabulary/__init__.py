"""The functions of tfjs-core that Plans use, as syft.js calls them: by name, with arguments by position.

Values are torch tensors of the three dtypes that tfjs has. Each function does what tfjs-core 1.2.5 and 1.7.4
do, their way with dtypes included; what they do otherwise than is modelled here, in one version or one
backend, is refused.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from fedplan.plan.variants.tfjs.vocabulary import chance, elements, indexing, layers, reductions, shapes
from fedplan.plan.variants.tfjs.vocabulary.values import DTYPES, as_tensor, truth

__all__ = ["DRAWS", "DTYPES", "FUNCTIONS", "METHODS", "as_tensor"]

DRAWS = chance.DRAWS

FUNCTIONS: Mapping[str, Callable[..., Tensor]] = {
    **{name: elements.arithmetic(function) for name, function in (
        ("add", torch.add), ("sub", torch.sub), ("mul", torch.mul), ("div", elements.quotient),
        ("pow", torch.pow), ("mod", torch.remainder), ("maximum", torch.maximum),
        ("minimum", torch.minimum), ("atan2", torch.atan2),
    )},
    **{name: elements.comparison(function) for name, function in (
        ("equal", torch.eq), ("notEqual", torch.ne), ("less", torch.lt), ("lessEqual", torch.le),
        ("greater", torch.gt), ("greaterEqual", torch.ge),
    )},
    **{name: elements.in_float32(getattr(torch, name)) for name in (
        "acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cos", "cosh", "exp", "expm1",
        "floor", "log", "log1p", "neg", "abs", "reciprocal", "round", "rsqrt", "sigmoid", "sign",
        "sin", "sinh", "sqrt", "tan", "tanh",
    )},
    "relu": lambda value: as_tensor(value).relu(),
    "erf": elements.erf,
    "square": elements.square,
    "isNaN": elements.in_float32(torch.isnan),
    "isInf": elements.in_float32(torch.isinf),
    "logicalAnd": elements.logic(torch.logical_and),
    "logicalOr": elements.logic(torch.logical_or),
    "logicalXor": elements.logic(torch.logical_xor),
    "logicalNot": lambda value: ~truth(value),
    "where": elements.where,
    "sum": reductions.reduction(torch.sum),
    "mean": reductions.mean,
    "prod": reductions.reduction(reductions.product),
    "max": reductions.reduction(torch.amax, number=False),
    "min": reductions.reduction(torch.amin, number=False),
    "any": reductions.all_of(torch.any),
    "all": reductions.all_of(torch.all),
    "argMax": reductions.place(torch.argmax),
    "argMin": reductions.place(torch.argmin),
    "cumsum": reductions.cumsum,
    "clone": lambda value: as_tensor(value).clone(),
    "cast": lambda value, dtype: as_tensor(value).to(DTYPES[dtype]),
    "reshape": lambda value, shape: as_tensor(value).reshape(tuple(shape)),
    "transpose": shapes.transpose,
    "slice": shapes.part,
    "stridedSlice": shapes.strided_part,
    "pad": shapes.pad,
    "tile": shapes.tile,
    "reverse": shapes.reverse,
    "expandDims": shapes.expand_dims,
    "gather": indexing.gather,
    "gatherND": indexing.gather_nd,
    "scatterND": indexing.scatter_nd,
    "oneHot": indexing.one_hot,
    "matMul": layers.matmul,
    "dot": layers.dot,
    "softmax": layers.softmax,
    "norm": layers.norm,
    "squeeze": shapes.squeeze,
    "conv1d": layers.convolution(1),
    "conv2d": layers.convolution(2),
    "conv3d": layers.convolution(3),
    "depthwiseConv2d": layers.convolution(2, by_channel=True),
    "maxPool": layers.pool(F.max_pool2d),
    "avgPool": layers.pool(F.avg_pool2d),
    "fill": shapes.fill,
    "zeros": lambda shape, dtype="float32": shapes.fill(shape, 0, dtype),
    "onesLike": lambda value: torch.ones_like(as_tensor(value)),
    "zerosLike": lambda value: torch.zeros_like(as_tensor(value)),
    "scalar": shapes.scalar,
    "range": shapes.numbers,
    "eye": torch.eye,
}  # fmt: skip
"""Functions of the `tf` namespace, by name."""

METHODS: Mapping[str, Callable[..., Tensor]] = {
    "concat": shapes.concat,
    **{name: FUNCTIONS[name] for name in (
        "add", "sub", "mul", "div", "pow", "mod", "maximum", "minimum", "equal", "less", "greater", "exp",
        "log", "neg", "abs", "relu", "sqrt", "sum", "mean", "max", "min", "argMax", "clone", "cast",
        "reshape", "transpose", "slice", "matMul",
    )},
}  # fmt: skip
"""Methods of `tf.Tensor`, by name; the tensor comes first."""
