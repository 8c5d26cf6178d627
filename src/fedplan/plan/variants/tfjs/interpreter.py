"""Running a role as syft.js runs it: what browsers will compute, found out without a browser."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from fedplan.errors import PlanExecutionError, PlanFormatError
from fedplan.plan.message.tensors import to_torch
from fedplan.plan.run.interpreter import KERNEL_ERRORS
from fedplan.plan.variants.tfjs.vocabulary import DRAWS, DTYPES, FUNCTIONS, METHODS, as_tensor
from fedplan.wire import read_tensor, schema

Scope = dict[int | str | None, Any]
"""Tensors and numbers by id."""

Numbers = Mapping[Any, torch.Tensor]
"""Random numbers by the id of the action that draws them."""


def execute(
    role: schema.Role, inputs: Sequence[torch.Tensor], numbers: Numbers | None = None
) -> list[torch.Tensor]:
    """Runs a role.

    Args:
        role: the tfjs variant of a Plan.
        inputs: one tensor an input; other dtypes become those that tfjs has.
        numbers: what actions that draw random numbers are answered with: uniform ones for `dropout` and
            `randomUniform`, normal ones for `randomNormal`.

    Returns:
        The outputs, in order.

    Raises:
        PlanExecutionError: an action failed, tfjs has no such function, or numbers for one that draws are not
            given.
        PlanFormatError: the role is not well formed.
    """
    scope = run(role, inputs, numbers)
    return [as_tensor(_read(scope, id)) for id in role.output_placeholder_ids]


def run(role: schema.Role, inputs: Sequence[torch.Tensor], numbers: Numbers | None = None) -> Scope:
    """Runs a role and returns all that it made, by id. See `execute`."""
    if len(inputs) != len(role.input_placeholder_ids):
        raise PlanFormatError(f"the role has {len(role.input_placeholder_ids)} inputs, not {len(inputs)}")
    scope: Scope = {
        key(id): _plain(value) for id, value in zip(role.input_placeholder_ids, inputs, strict=True)
    }
    state = role.state or schema.State()
    for placeholder, entry in zip(state.placeholders, state.tensors, strict=True):
        tensor = entry.torch_param.tensor if entry.torch_param else entry.torch_tensor
        scope[key(placeholder.id)] = _constant(tensor)
    given = {id: _plain(value) for id, value in (numbers or {}).items()}
    with torch.no_grad():
        for action in role.actions:
            scope[_result(action)] = _act(action, scope, given)
    return scope


def key(id: schema.Id | None) -> int | str | None:
    """An id as it is looked up."""
    if id is None:
        return None
    return id.id_int if id.id_int is not None else id.id_str


def show(action: schema.ComputationAction) -> str:
    """An action, for a message."""
    target = "" if action.target_placeholder_id is None else f"%{key(action.target_placeholder_id.id)}."
    args = ", ".join(_show(arg) for arg in (*action.args, *action.kwargs.values()))
    return f"%{_result(action)} = {target}{action.command}({args})"


def _show(arg: schema.Arg) -> str:
    kind = arg.which("arg")
    if kind is None:
        return "undefined"
    value = getattr(arg, kind)
    if kind in {"arg_placeholder_id", "arg_placeholder"}:
        return f"%{key(value.id)}"
    return f"[{', '.join(map(_show, value.args))}]" if kind == "arg_list" else repr(value)


def _plain(value: torch.Tensor) -> torch.Tensor:
    """A tensor in the dtype that it has when it comes from a browser."""
    if value.dtype == torch.bool:
        return value
    return value.to(torch.float32 if value.dtype.is_floating_point else torch.int32)


def _constant(tensor: schema.TorchTensor | None) -> torch.Tensor:
    if tensor is None:
        raise PlanFormatError("a tensor of the Plan is empty")
    value = to_torch(read_tensor(tensor))
    if value.dtype not in {DTYPES["float32"], DTYPES["int32"]}:
        raise PlanFormatError(f"syft.js loads float32 and int32, not {value.dtype}")
    return value


def _result(action: schema.ComputationAction) -> int | str | None:
    ids = [*action.return_ids, *(placeholder.id for placeholder in action.return_placeholder_ids)]
    if not ids:
        raise PlanFormatError(f"the action '{action.command}' returns nothing")
    return key(ids[0])  # the first counts


def _read(scope: Scope, id: schema.Id | None) -> Any:
    if key(id) not in scope:
        raise PlanFormatError(f"the id {key(id)} is read before anything is written there")
    return scope[key(id)]


def _act(action: schema.ComputationAction, scope: Scope, numbers: Numbers) -> torch.Tensor:
    function = _function(action, numbers)
    target = action.target_placeholder_id
    arguments = [_argument(arg, scope) for arg in action.args]
    if target is None:
        arguments += [_argument(arg, scope) for arg in action.kwargs.values()]  # by position, names ignored
    else:
        arguments.insert(0, as_tensor(_read(scope, target.id)))
    try:
        return function(*arguments)
    except KERNEL_ERRORS as error:
        raise PlanExecutionError(f"'{show(action)}' failed: {error}") from error


def _function(action: schema.ComputationAction, numbers: Numbers) -> Callable[..., torch.Tensor]:
    """What an action calls; one that draws is answered with the numbers that are given for it."""
    name, id = action.command.rpartition(".")[2], _result(action)
    where, functions = ("tf", FUNCTIONS) if action.target_placeholder_id is None else ("tf.Tensor", METHODS)
    if name in functions:
        return functions[name]
    if where == "tf" and name in DRAWS:
        if id not in numbers:
            raise PlanExecutionError(f"'{show(action)}' draws random numbers, and none are given for it")
        return functools.partial(DRAWS[name], numbers[id])
    raise PlanExecutionError(f"'{show(action)}' failed: '{name}' is none of the known functions of {where}")


def _argument(arg: schema.Arg, scope: Scope) -> Any:
    kind = arg.which("arg")
    if kind is None:
        return None
    value = getattr(arg, kind)
    if kind in {"arg_placeholder_id", "arg_placeholder"}:
        return _read(scope, value.id)
    if kind == "arg_list":
        return [_argument(item, {}) for item in value.args]  # syft.js finds no tensors inside of a list
    if kind == "arg_tensor":
        return _constant(value)
    if kind in {"arg_shape", "arg_torch_param"}:
        raise PlanFormatError(f"syft.js does not understand an argument of the kind {kind}")
    return value
