"""Rows for recurrent layers, and for the functions that an executor puts in their place."""

import functools

from fedplan.plan.ops.op import Argument, Kind, Op, overload
from fedplan.plan.recurrence import operators, schema
from fedplan.plan.recurrence.kernels import KERNELS, Kernel


def _row(recurrence: schema.Recurrence) -> Op:
    operators.operator(recurrence.name)  # they exist from here on
    return Op(
        recurrence.operator,
        Kind.RECURRENCE,
        guard=functools.partial(schema.refusal, recurrence),
        torchscript=None,  # `fedplan.plan.variants.torchscript.unrolled` says it step by step before
        work=functools.partial(schema.work, recurrence),
        scratch=functools.partial(schema.scratch, recurrence),
    )


def _kernel_row(kernel: Kernel) -> Op:
    schema_arguments = overload(kernel.stands_for.operator)._schema.arguments
    signature = tuple(
        Argument(a.name, str(a.real_type), a.kwarg_only, a.default_value, not a.has_default_value())
        for a in schema_arguments
    )
    return Op(kernel.name, Kind.RECURRENCE, torchscript=None, implementation=kernel.call, signature=signature)


ROWS = tuple(map(_row, schema.RECURRENCES.values()))
"""Those that a Plan may hold."""

EXECUTOR_ROWS = tuple(map(_kernel_row, KERNELS.values()))
"""Those that only executors use."""
