"""Recurrent layers: the functions of executors take an axis of clients after that of time."""

from typing import Any

from fedplan.plan.clients.lifting import STAND_IN, Lifting, Made, Value
from fedplan.plan.recurrence.kernels import FAST
from fedplan.plan.recurrence.schema import RECURRENCES, is_sequence, named


def recurrence(name: str) -> Any:
    """The rule of a recurrent operation, or of its gradient."""
    schema, function = RECURRENCES[name], FAST[name].name

    def rule(lift: Lifting, *args: Any) -> Made:
        if named(schema, args).get("w_hr") is not None:
            return lift.by_vmap(*args)
        given = [
            _exchanged(lift, lift.whole(arg), is_sequence(label)) if isinstance(arg, Value) else arg
            for label, arg in zip(schema.names, args, strict=True)
        ]
        foreseen = [
            _with_clients(meta, 1 if is_sequence(label) else 0)
            for label, meta in zip(schema.results, lift.expected, strict=True)
        ]
        made = lift.emit_all(function, *given, made=foreseen)
        return [
            value and _exchanged(lift, value, is_sequence(label))
            for label, value in zip(schema.results, made, strict=True)
        ]

    return rule


def _exchanged(lift: Lifting, value: Value, sequence: bool) -> Value:
    """Clients and time exchanged, of what has time."""
    if not sequence:
        return value
    return lift.aten("permute.default", value, (1, 0, *range(2, value.meta.dim())))


def _with_clients(meta: Any, place: int) -> Any:
    shape = list(meta.shape)
    return meta.new_empty((*shape[:place], STAND_IN, *shape[place:]))
