"""The table of words: how each operation of a Plan is said in TorchScript, in torch 1.8 and today's alike."""

from collections.abc import Callable, Mapping

from fedplan.plan.ir import Arg

_NAMES = """
    abs.default acos.default acosh.default add.Scalar add.Tensor addcdiv.default addcmul.default
    asin.default asinh.default atan.default atan2.default atanh.default bitwise_and.Scalar
    bitwise_and.Tensor bitwise_not.default bitwise_or.Scalar bitwise_or.Tensor bitwise_xor.Scalar
    bitwise_xor.Tensor ceil.default clamp.default cos.default cosh.default div.Scalar div.Tensor
    elu.default elu_backward.default eq.Scalar eq.Tensor erf.default exp.default expm1.default
    floor.default fmod.Scalar fmod.Tensor ge.Scalar ge.Tensor gt.Scalar gt.Tensor hardtanh.default
    hardtanh_backward.default isinf.default isnan.default le.Scalar le.Tensor leaky_relu.default
    leaky_relu_backward.default lerp.Scalar lerp.Tensor log.default log10.default log1p.default
    log2.default logical_and.default logical_not.default logical_or.default logical_xor.default lt.Scalar
    lt.Tensor maximum.default minimum.default mse_loss_backward.default mul.Scalar mul.Tensor ne.Scalar
    ne.Tensor neg.default pow.Scalar pow.Tensor_Scalar pow.Tensor_Tensor reciprocal.default relu.default
    remainder.Scalar remainder.Tensor round.default rsqrt.default rsub.Scalar rsub.Tensor sigmoid.default
    sigmoid_backward.default sign.default silu.default silu_backward.default sin.default sinh.default
    sqrt.default sub.Scalar sub.Tensor tan.default tanh.default tanh_backward.default
    threshold_backward.default trunc.default all.default all.dim amax.default amin.default any.default
    any.dim argmax.default argmin.default cumsum.default max.default max.dim mean.default mean.dim
    min.default min.dim mse_loss.default nll_loss_forward.default prod.default prod.dim_int sort.default
    sum.default sum.dim_IntList topk.default diagonal.default expand.default permute.default
    reshape.default select.int slice.Tensor split.Tensor split_with_sizes.default squeeze.default
    squeeze.dim transpose.int unbind.int unsqueeze.default addmm.default bmm.default mm.default
    convolution.default _log_softmax.default _softmax.default native_layer_norm.default
    native_batch_norm_backward.default embedding.default embedding_dense_backward.default gather.default
    index.Tensor index_put.default index_select.default nll_loss_backward.default scatter.src
    scatter.value scatter_add.default _adaptive_avg_pool2d.default _adaptive_avg_pool2d_backward.default
    adaptive_avg_pool1d.default avg_pool1d.default avg_pool2d.default avg_pool2d_backward.default
    max_pool2d_with_indices.default cat.default constant_pad_nd.default eye.default flip.default
    full.default full_like.default ones_like.default repeat.default scalar_tensor.default stack.default
    zeros_like.default binary_cross_entropy_with_logits.default dot.default norm.Scalar norm.ScalarOpt_dim
    chunk.default flatten.using_ints t.default linear.default matmul.default conv2d.default
    log_softmax.int softmax.int one_hot.default max_pool2d.default
"""

ALIKE = frozenset(f"aten.{name}" for name in _NAMES.split())
"""Operations that both have, with the same arguments in the same order."""


def _division(rounding: Arg) -> str:
    """Torch 1.8 has no name for not rounding."""
    return "torch.div({self}, {other}" + (")" if rounding is None else ", rounding_mode={rounding_mode})")


def _variance(correction: Arg) -> str:
    return (
        f"@variance({{self}}, {{dim}}, {'1.' if correction is None else 'float({correction})'}, {{keepdim}})"
    )


def _cross_entropy(smoothing: Arg) -> str | None:
    return None if smoothing else "@cross_entropy({self}, {target}, {weight}, {reduction}, {ignore_index})"


Row = str | Callable[[Mapping[str, Arg]], str | None]
"""What stands for an operation: a text with ``{argument}`` for each argument of its schema, in which
``@name(`` calls a function of `library`; or which text, decided by the arguments, None for none."""

ROWS: Mapping[str, Row] = {
    "sym.add": "{operand0} + {operand1}",
    "sym.sub": "{operand0} - {operand1}",
    "sym.mul": "{operand0} * {operand1}",
    "sym.floordiv": "{operand0} // {operand1}",
    "sym.mod": "{operand0} % {operand1}",
    "sym.truediv": "{operand0} / {operand1}",
    "sym.neg": "-({operand0})",
    "sym.max": "max({operand0}, {operand1})",
    "sym.min": "min({operand0}, {operand1})",
    "sym.float": "float({operand0})",
    "aten.sym_size.int": "torch.size({operand0}, {operand1})",
    "aten.sym_numel.default": "torch.numel({operand0})",
    # arguments that one of the two does not take
    "aten._to_copy.default": "torch.to({self}, {dtype})",
    "aten.arange.start_step": "torch.arange({start}, {end}, {step}, dtype={dtype})",
    "aten.div.Scalar_mode": lambda given: _division(given["rounding_mode"]),
    "aten.div.Tensor_mode": lambda given: _division(given["rounding_mode"]),
    "aten._native_batch_norm_legit.no_stats": (
        "torch.native_batch_norm({input}, {weight}, {bias}, None, None, {training}, {momentum}, {eps})"
    ),
    # these kernels read tensors as if they lay side by side in memory, today's or those of 1.8
    "aten.native_layer_norm_backward.default": (
        "torch.native_layer_norm_backward(torch.contiguous({grad_out}), torch.contiguous({input}), "
        "{normalized_shape}, {mean}, {rstd}, {weight}, {bias}, {output_mask})"
    ),
    "aten.max_pool2d_with_indices_backward.default": (
        "torch.max_pool2d_with_indices_backward(torch.contiguous({grad_output}), torch.contiguous({self}), "
        "{kernel_size}, {stride}, {padding}, {dilation}, {ceil_mode}, torch.contiguous({indices}))"
    ),
    "aten.native_group_norm.default": (
        "torch.native_group_norm(torch.contiguous({input}), {weight}, {bias}, {N}, {C}, {HxW}, {group}, "
        "{eps})"
    ),
    "aten.native_group_norm_backward.default": (
        "torch.native_group_norm_backward(torch.contiguous({grad_out}), torch.contiguous({input}), "
        "{mean}, {rstd}, {weight}, {N}, {C}, {HxW}, {group}, {output_mask})"
    ),
    # functions of the library
    "aten.clamp.Tensor": "@clamp({self}, {min}, {max})",
    "aten.gelu.default": "@gelu({self}, {approximate})",
    "aten.gelu_backward.default": "@gelu_backward({grad_output}, {self}, {approximate})",
    "aten.where.self": "@where({condition}, {self}, {other})",
    "aten.where.ScalarSelf": "@where_number({condition}, {self}, {other})",
    "aten.where.ScalarOther": "@where_number(torch.logical_not({condition}), {other}, {self})",
    "aten.any.dims": "@any({self}, {dim}, {keepdim})",
    "aten.linalg_vector_norm.default": "@vector_norm({self}, float({ord}), {dim}, {keepdim}, {dtype})",
    "aten.var.correction": lambda given: _variance(given["correction"]),
    "aten.squeeze.dims": "@squeeze({self}, {dim})",
    "aten.convolution_backward.default": (
        "@convolution_backward({grad_output}, {input}, {weight}, {stride}, {padding}, {dilation}, "
        "{transposed}, {groups}, {output_mask})"
    ),
    "aten._log_softmax_backward_data.default": (
        "@log_softmax_backward({grad_output}, {output}, {dim}, {input_dtype})"
    ),
    "aten._softmax_backward_data.default": "@softmax_backward({grad_output}, {output}, {dim}, {input_dtype})",
    "aten._native_batch_norm_legit_functional.default": (
        "@batch_norm({input}, {weight}, {bias}, {running_mean}, {running_var}, {training}, {momentum}, {eps})"
    ),
    "aten._native_batch_norm_legit_no_training.default": (
        "@batch_norm_no_training({input}, {weight}, {bias}, {running_mean}, {running_var}, {momentum}, {eps})"
    ),
    "aten.select_scatter.default": "@select_scatter({self}, {src}, {dim}, {index})",
    "aten.slice_scatter.default": "@slice_scatter({self}, {src}, {dim}, {start}, {end}, {step})",
    "aten.cross_entropy_loss.default": lambda given: _cross_entropy(given["label_smoothing"]),
}
"""Operations that one of the two lacks, or takes other arguments for."""

TEMPLATES = [row for row in ROWS.values() if isinstance(row, str)]
"""The texts among the rows."""
