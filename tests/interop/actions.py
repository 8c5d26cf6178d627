"""Actions of tfjs Plans, and Plans of them, in the form in which a grid serves them to syft.js."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fedplan.wire import schema

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True)
class Action:
    """One action of a tfjs Plan.

    Attributes:
        command: such as `tf.matMul`; only what follows the last dot counts.
        args: arrays stand for tensors; besides them numbers, texts, booleans, None, and lists of all these.
        kwargs: like `args`. syft.js appends them to the args, and drops them when there is a target.
        target: the tensor whose method the command is; without one it is a function of `tf`.
    """

    command: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    target: Array | None = None


def plan_of_action(action: Action) -> tuple[bytes, list[Array]]:
    """A Plan of one action, and its inputs."""
    inputs: list[Array] = []

    def arg(value: Any) -> schema.Arg:
        match value:
            case np.ndarray():
                inputs.append(value)
                return schema.Arg(arg_placeholder_id=_place(len(inputs)))
            case bool():
                return schema.Arg(arg_bool=value)
            case int():
                return schema.Arg(arg_int=value)
            case float():
                return schema.Arg(arg_float=value)
            case str():
                return schema.Arg(arg_str=value)
            case None:
                return schema.Arg()
            case _:
                return schema.Arg(arg_list=schema.ArgList(args=[arg(item) for item in value]))

    target = None if action.target is None else arg(action.target).arg_placeholder_id
    step = schema.ComputationAction(
        command=action.command,
        target_placeholder_id=target,
        args=[arg(value) for value in action.args],
        kwargs={key: arg(value) for key, value in action.kwargs.items()},
        return_placeholder_ids=[_place(0)],
    )
    return plan_of([step], inputs=range(1, len(inputs) + 1), outputs=[0]), inputs


def plan_of(
    actions: Sequence[schema.ComputationAction], inputs: Iterable[int], outputs: Iterable[int]
) -> bytes:
    """A tfjs Plan, as a grid serves it, of actions whose placeholders are numbered."""
    role = role_of(actions, inputs, outputs)
    return schema.Plan(id=_id(1), role=role, name="plan", base_framework="tfjs").encode()


def role_of(
    actions: Sequence[schema.ComputationAction], inputs: Iterable[int], outputs: Iterable[int]
) -> schema.Role:
    """The role of such a Plan."""
    given, returned = [_id(number) for number in inputs], [_id(number) for number in outputs]
    places = {number.id_int: schema.Placeholder(id=number) for number in (*given, *returned)}
    return schema.Role(
        id=_id(2),
        actions=list(actions),
        state=schema.State(),
        placeholders=list(places.values()),
        input_placeholder_ids=given,
        output_placeholder_ids=returned,
    )


def _id(number: int) -> schema.Id:
    return schema.Id(id_int=number)


def _place(number: int) -> schema.PlaceholderId:
    return schema.PlaceholderId(id=_id(number))
