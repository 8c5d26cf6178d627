"""Rows for the layers of networks: products, convolutions, normalisations, pools."""

import functools

from fedplan.plan.ops import guards
from fedplan.plan.ops.op import BY_PARTS, Kind, Op, Trait, op

_product = functools.partial(op, Kind.MATMUL)
_convolution = functools.partial(op, Kind.CONVOLUTION)
_normalisation = functools.partial(op, Kind.NORMALISATION)
_pool = functools.partial(op, Kind.POOL)

COMPOSITE, IN_PLACE, DIRECT, CONTIGUOUS = Trait.COMPOSITE, Trait.IN_PLACE, Trait.DIRECT, Trait.CONTIGUOUS


def _maximum_pools(rank: int) -> tuple[Op, ...]:
    """Maximum pools over so many dimensions, and their gradients."""
    pool, adaptive = f"max_pool{rank}d_with_indices", f"adaptive_max_pool{rank}d"
    return (
        _pool(f"{pool}.default", guard=guards.max_pool(rank)),
        _pool(
            f"{pool}_backward.default",
            guard=guards.same_shape(0, 7),
            witness=guards.largest(rank),
            torchscript=(
                f"torch.{pool}_backward(torch.contiguous({{grad_output}}), torch.contiguous({{self}}), "
                "{kernel_size}, {stride}, {padding}, {dilation}, {ceil_mode}, torch.contiguous({indices}))"
            ),
        ),
        _pool(f"{adaptive}.default"),
        _pool(
            f"{adaptive}_backward.default",
            CONTIGUOUS,
            guard=guards.same_shape(0, 2),
            witness=guards.adaptive_largest(rank),
            torchscript=(
                f"torch.{adaptive}_backward(torch.contiguous({{grad_output}}), torch.contiguous({{self}}), "
                "torch.contiguous({indices}))"
            ),
        ),
    )


# `torch.contiguous` in the words of TorchScript stands where a kernel of old torch reads tensors as if their
# elements lay side by side in memory.
ROWS = (
    _product("addmm.default", IN_PLACE | DIRECT),
    _product("bmm.default", DIRECT),
    _product("linear.default", COMPOSITE | DIRECT),
    _product("matmul.default", COMPOSITE, pysyft="__matmul__"),
    _product("mm.default", DIRECT),
    _convolution("conv2d.default", COMPOSITE),
    _convolution("convolution.default", DIRECT),
    _convolution(
        "convolution_backward.default",
        guard=guards.convolution_backward,
        torchscript=BY_PARTS,
    ),
    _normalisation("_log_softmax.default", DIRECT),
    _normalisation(
        "_log_softmax_backward_data.default",
        DIRECT,
        guard=guards.same_shape(0, 1),
        torchscript="@log_softmax_backward({grad_output}, {output}, {dim}, {input_dtype})",
    ),
    _normalisation(
        "_native_batch_norm_legit.no_stats",
        guard=guards.training_batch_norm(3, 1, 2),
        torchscript=(
            "torch.native_batch_norm({input}, {weight}, {bias}, None, None, {training}, {momentum}, {eps})"
        ),
    ),
    _normalisation(
        "_native_batch_norm_legit_functional.default",
        guard=guards.training_batch_norm(5, 1, 2, 3, 4),
        torchscript=(
            "@batch_norm({input}, {weight}, {bias}, {running_mean}, {running_var}, {training}, "
            "{momentum}, {eps})"
        ),
    ),
    _normalisation(
        "_native_batch_norm_legit_no_training.default",
        guard=guards.batch_norm(1, 2, 3, 4),
        torchscript=(
            "@batch_norm_no_training({input}, {weight}, {bias}, {running_mean}, {running_var}, "
            "{momentum}, {eps})"
        ),
    ),
    _normalisation("_softmax.default", DIRECT),
    _normalisation(
        "_softmax_backward_data.default",
        DIRECT,
        guard=guards.same_shape(0, 1),
        torchscript="@softmax_backward({grad_output}, {output}, {dim}, {input_dtype})",
    ),
    _normalisation("log_softmax.int", COMPOSITE),
    _normalisation("native_batch_norm_backward.default", guard=guards.batch_norm_backward),
    _normalisation(
        "native_group_norm.default",
        CONTIGUOUS,
        guard=guards.group_norm,
        torchscript=(
            "torch.native_group_norm(torch.contiguous({input}), {weight}, {bias}, {N}, {C}, {HxW}, "
            "{group}, {eps})"
        ),
    ),
    _normalisation(
        "native_group_norm_backward.default",
        CONTIGUOUS,
        guard=guards.group_norm_backward,
        torchscript=(
            "torch.native_group_norm_backward(torch.contiguous({grad_out}), torch.contiguous({input}), "
            "{mean}, {rstd}, {weight}, {N}, {C}, {HxW}, {group}, {output_mask})"
        ),
    ),
    _normalisation(
        "native_layer_norm.default",
        DIRECT,
        torchscript="@layer_norm(torch.contiguous({input}), {normalized_shape}, {weight}, {bias}, {eps})",
    ),
    _normalisation(
        "native_layer_norm_backward.default",
        guard=guards.layer_norm_backward,
        torchscript=(
            "@layer_norm_backward({grad_out}, {input}, {normalized_shape}, {mean}, {rstd}, {weight}, "
            "{output_mask})"
        ),
    ),
    _normalisation("softmax.int", COMPOSITE),
    _pool("_adaptive_avg_pool2d.default"),
    _pool("_adaptive_avg_pool2d_backward.default", guard=guards.average_pool_backward(2)),
    _pool("_adaptive_avg_pool3d.default", torchscript="torch.adaptive_avg_pool3d({self}, {output_size})"),
    _pool(
        "_adaptive_avg_pool3d_backward.default",
        guard=guards.average_pool_backward(3),
        torchscript="@adaptive_average_backward({grad_output}, {self}, 3)",
    ),
    _pool("adaptive_avg_pool1d.default"),
    _pool("avg_pool1d.default"),
    _pool("avg_pool2d.default"),
    _pool("avg_pool2d_backward.default", guard=guards.average_pool_backward(2)),
    _pool("avg_pool3d.default"),
    _pool("avg_pool3d_backward.default", guard=guards.average_pool_backward(3)),
    _pool("max_pool2d.default", COMPOSITE),
    *_maximum_pools(2),
    *_maximum_pools(3),
)
"""All of them."""
