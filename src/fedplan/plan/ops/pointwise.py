"""Rows for what is done element by element, with broadcasting."""

import functools
import math
from collections.abc import Mapping
from typing import Any

from fedplan.plan.ops.op import Kind, Trait, op

_row = functools.partial(op, Kind.POINTWISE)

IN_PLACE, DIRECT = Trait.IN_PLACE, Trait.DIRECT


def _division(given: Mapping[str, Any]) -> str:
    """Torch 1.7 does not round quotients."""
    other, mode = "{other}", given["rounding_mode"]
    if mode is None:
        return f"torch.div({{self}}, {other})"
    if isinstance(given["other"], int | float):
        other = f"torch.scalar_tensor({other}, dtype=torch.result_type({{self}}, {other}))"
    return f"@{'divide_down' if mode == 'floor' else 'divide_to_zero'}({{self}}, {other})"


def _with_sign(given: Mapping[str, Any]) -> str:
    """TorchScript of old reads -0.0 as 0.0."""
    size = "torch.abs({self}) * 1."
    return f"torch.neg({size})" if math.copysign(1, given["other"]) < 0 else size


ROWS = (
    _row("_to_copy.default", torchscript="torch.to({self}, {dtype})"),
    _row("abs.default", IN_PLACE | DIRECT, pysyft="__abs__"),
    _row("acos.default"),
    _row("acosh.default"),
    _row("add.Scalar", IN_PLACE | DIRECT, pysyft="__add__ __radd__ __iadd__"),
    _row("add.Tensor", IN_PLACE | DIRECT, pysyft="__add__ __radd__ __iadd__"),
    _row("addcdiv.default", IN_PLACE | DIRECT),
    _row("addcmul.default", IN_PLACE | DIRECT),
    _row("asin.default"),
    _row("asinh.default"),
    _row("atan.default"),
    _row("atan2.default"),
    _row("atanh.default"),
    _row("bitwise_and.Scalar", pysyft="__and__"),
    _row("bitwise_and.Tensor", pysyft="__and__"),
    _row(
        "bitwise_left_shift.Tensor",
        torchscript="torch.__lshift__({self}, {other})",
        traced_as="__lshift__.Tensor",
    ),
    _row(
        "bitwise_left_shift.Tensor_Scalar",
        torchscript="torch.__lshift__({self}, {other})",
        traced_as="__lshift__.Scalar",
    ),
    _row("bitwise_not.default", pysyft="__invert__"),
    _row("bitwise_or.Scalar", pysyft="__or__"),
    _row("bitwise_or.Tensor", pysyft="__or__"),
    _row(
        "bitwise_right_shift.Tensor",
        torchscript="torch.__rshift__({self}, {other})",
        traced_as="__rshift__.Tensor",
    ),
    _row(
        "bitwise_right_shift.Tensor_Scalar",
        torchscript="torch.__rshift__({self}, {other})",
        traced_as="__rshift__.Scalar",
    ),
    _row("bitwise_xor.Scalar", pysyft="__xor__"),
    _row("bitwise_xor.Tensor", pysyft="__xor__"),
    _row("ceil.default", IN_PLACE | DIRECT),
    _row("clamp.Tensor", IN_PLACE | DIRECT, torchscript="@clamp({self}, {min}, {max})"),
    _row("clamp.default", IN_PLACE | DIRECT),
    _row("copysign.Scalar", torchscript=_with_sign),
    _row("copysign.Tensor", torchscript="@copysign({self}, {other})"),
    _row("cos.default", IN_PLACE | DIRECT),
    _row("cosh.default"),
    _row("digamma.default"),
    _row("div.Scalar", IN_PLACE | DIRECT, pysyft="__truediv__ __div__ __itruediv__"),
    _row(
        "div.Scalar_mode", IN_PLACE | DIRECT, pysyft="__truediv__ __div__ __itruediv__", torchscript=_division
    ),
    _row("div.Tensor", IN_PLACE | DIRECT, pysyft="__truediv__ __div__ __itruediv__"),
    _row(
        "div.Tensor_mode", IN_PLACE | DIRECT, pysyft="__truediv__ __div__ __itruediv__", torchscript=_division
    ),
    _row("elu.default"),
    _row(
        "elu_backward.default",
        torchscript=(
            "@elu_backward({grad_output}, {alpha}, {scale}, {input_scale}, {is_result}, {self_or_result})"
        ),
    ),
    _row("eq.Scalar", DIRECT, pysyft="__eq__"),
    _row("eq.Tensor", DIRECT, pysyft="__eq__"),
    _row("erf.default", DIRECT),
    _row("erfc.default"),
    _row("erfinv.default"),
    _row("exp.default", IN_PLACE | DIRECT),
    _row("exp2.default"),
    _row("expm1.default", IN_PLACE | DIRECT),
    _row("floor.default", IN_PLACE | DIRECT),
    _row("fmax.default", torchscript="@maximum_of_numbers({self}, {other})"),
    _row("fmin.default", torchscript="@minimum_of_numbers({self}, {other})"),
    _row("fmod.Scalar"),
    _row("fmod.Tensor", torchscript="@fmod({self}, {other})"),
    _row("gcd.default"),
    _row("ge.Scalar", DIRECT, pysyft="__ge__"),
    _row("ge.Tensor", DIRECT, pysyft="__ge__"),
    _row("gelu.default", torchscript="@gelu({self}, {approximate})"),
    _row("gelu_backward.default", torchscript="@gelu_backward({grad_output}, {self}, {approximate})"),
    _row("gt.Scalar", DIRECT, pysyft="__gt__"),
    _row("gt.Tensor", DIRECT, pysyft="__gt__"),
    _row("hardtanh.default"),
    _row("hardtanh_backward.default"),
    _row("hypot.default"),
    _row("i0.default"),
    _row("igamma.default", torchscript=None),
    _row("igammac.default", torchscript=None),
    _row("isinf.default"),
    _row("isnan.default"),
    _row("lcm.default"),
    _row("le.Scalar", DIRECT, pysyft="__le__"),
    _row("le.Tensor", DIRECT, pysyft="__le__"),
    _row("leaky_relu.default"),
    _row("leaky_relu_backward.default"),
    _row("lerp.Scalar", IN_PLACE | DIRECT),
    _row("lerp.Tensor", IN_PLACE | DIRECT),
    _row("lgamma.default"),
    _row("log.default", IN_PLACE | DIRECT),
    _row("log10.default"),
    _row("log1p.default", IN_PLACE | DIRECT),
    _row("log2.default"),
    _row("logical_and.default"),
    _row("logical_not.default"),
    _row("logical_or.default"),
    _row("logical_xor.default"),
    _row("lt.Scalar", DIRECT, pysyft="__lt__"),
    _row("lt.Tensor", DIRECT, pysyft="__lt__"),
    _row("maximum.default", DIRECT),
    _row("minimum.default", DIRECT),
    _row("mse_loss_backward.default"),
    _row("mul.Scalar", IN_PLACE | DIRECT, pysyft="__mul__ __rmul__ __imul__"),
    _row("mul.Tensor", IN_PLACE | DIRECT, pysyft="__mul__ __rmul__ __imul__"),
    _row("ne.Scalar", DIRECT, pysyft="__ne__"),
    _row("ne.Tensor", DIRECT, pysyft="__ne__"),
    _row("neg.default", IN_PLACE | DIRECT, pysyft="__neg__"),
    _row("nextafter.default"),
    _row("polygamma.default"),
    _row("pow.Scalar", IN_PLACE | DIRECT, pysyft="__pow__ __ipow__"),
    _row("pow.Tensor_Scalar", IN_PLACE | DIRECT, pysyft="__pow__ __ipow__"),
    _row("pow.Tensor_Tensor", IN_PLACE | DIRECT, pysyft="__pow__ __ipow__"),
    _row("reciprocal.default", IN_PLACE | DIRECT),
    _row("relu.default", IN_PLACE | DIRECT),
    _row("remainder.Scalar", pysyft="__mod__ mod"),
    _row("remainder.Tensor", pysyft="__mod__ mod"),
    _row("round.default", IN_PLACE | DIRECT),
    _row("rsqrt.default", IN_PLACE | DIRECT),
    _row("rsub.Scalar", DIRECT, pysyft="__rsub__"),
    _row("rsub.Tensor", DIRECT, pysyft="__rsub__"),
    _row("sigmoid.default", IN_PLACE | DIRECT),
    _row("sigmoid_backward.default", IN_PLACE),
    _row("sign.default", IN_PLACE | DIRECT),
    _row("signbit.default"),
    _row("silu.default"),
    _row("silu_backward.default"),
    _row("sin.default", IN_PLACE | DIRECT),
    _row("sinh.default"),
    _row("special_erfcx.default", torchscript=None),
    _row("special_i0e.default", torchscript=None),
    _row("special_i1.default", torchscript=None),
    _row("special_i1e.default", torchscript=None),
    _row("special_ndtri.default", torchscript=None),
    _row("special_zeta.default", torchscript=None),
    _row("sqrt.default", IN_PLACE | DIRECT),
    _row("sub.Scalar", IN_PLACE | DIRECT, pysyft="__sub__ __isub__"),
    _row("sub.Tensor", IN_PLACE | DIRECT, pysyft="__sub__ __isub__"),
    _row("tan.default"),
    _row("tanh.default", IN_PLACE | DIRECT),
    _row("tanh_backward.default", IN_PLACE),
    _row("threshold_backward.default", IN_PLACE),
    _row("trunc.default", IN_PLACE | DIRECT),
    _row(
        "where.ScalarOther",
        DIRECT,
        torchscript="@where_number(torch.logical_not({condition}), {other}, {self})",
    ),
    _row("where.ScalarSelf", DIRECT, torchscript="@where_number({condition}, {self}, {other})"),
    _row("where.self", DIRECT, torchscript="@where({condition}, {self}, {other})"),
)
"""All of them."""
