"""What a Plan's specs ask for: keys of a client_config, tensors of a model, rows in a batch.

A worker finds out when it trains. These checks say it before: to the model owner and the grid when the Plan
is hosted, and to the worker when it makes its trainer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from fedplan.errors import ConfigError, PlanError, PlanExecutionError, PlanInputError
from fedplan.plan.ops import DTYPES
from fedplan.plan.plan import Plan
from fedplan.plan.roles import check_roles
from fedplan.plan.signature import PlanInput
from fedplan.plan.spec import PlanInputSpec, PlanOutputSpec


def check_specs(plan: Plan, parameters: int) -> None:
    """Checks that what the Plan's specs stand for can be there.

    A Plan that does not say what its inputs stand for passes: its workers say it.

    Args:
        plan: the Plan that is to be hosted.
        parameters: how many tensors its model has.

    Raises:
        PlanInputError: a spec means a tensor that is not there, or a value that does not travel; the Plan
            changes a tensor that it says to be frozen, or has two inputs or outputs for one.
    """
    if plan.input_specs is None:
        return
    for item in plan.inputs:
        _check_input(plan, item)
    kind = PlanInputSpec.TYPE_OPTIMIZER_STATE
    counts = {
        PlanInputSpec.TYPE_MODEL_PARAM: parameters,
        kind: len({spec.index for spec in plan.input_specs if spec.type == kind}),
    }
    _check_indices(plan, plan.input_specs, "input", counts)
    _check_indices(plan, plan.output_specs or (), "output", counts)
    check_roles(plan)


def _check_input(plan: Plan, item: PlanInput) -> None:
    kind = None if item.spec is None else item.spec.type
    if kind == PlanInputSpec.TYPE_VALUE:
        raise PlanInputError(
            f"the input '{item.name}' of the Plan '{plan.name}' stands for a value, which does not travel "
            "with a Plan: let the traced function hold it itself, or take it from the client_config"
        )
    described = item.dtype is not None and item.shape is not None and None not in item.shape
    if kind == PlanInputSpec.TYPE_OPTIMIZER_STATE and not described:
        raise PlanInputError(
            f"the input '{item.name}' of the Plan '{plan.name}' is the optimizer's state, which a worker "
            "makes: the Plan must say its whole shape and its dtype"
        )


def _check_indices(
    plan: Plan, specs: Sequence[PlanInputSpec | PlanOutputSpec], what: str, counts: Mapping[str, int]
) -> None:
    for place, spec in enumerate(specs):
        if spec.type in counts and not (spec.index is not None and 0 <= spec.index < counts[spec.type]):
            owner = "model" if spec.type == PlanInputSpec.TYPE_MODEL_PARAM else "optimizer"
            which = "without an index" if spec.index is None else str(spec.index)
            raise PlanInputError(
                f"{what} {place} of the Plan '{plan.name}' stands for {spec.type} {which}, and the {owner} "
                f"has only {counts[spec.type]}: the index of its spec must say which, from 0"
            )


def check_client_config(plan: Plan, client_config: Mapping[str, Any]) -> None:
    """Checks that a client_config holds what the Plan's specs take from it.

    A batch size is nothing that it must hold: workers may have their own.

    Args:
        plan: the Plan that is to be hosted; see `check_specs`.
        client_config: what workers are told. They do not get a key whose value is null.

    Raises:
        ConfigError: it lacks keys, or holds something else than the inputs need; the message names them all.
    """
    if plan.input_specs is None:
        return
    pairs = zip(plan.inputs, plan.input_specs, strict=True)
    faults = [fault for item, spec in pairs if (fault := _fault(item, spec, client_config))]
    if faults:
        needs = ", and ".join(faults)
        raise ConfigError(
            f"client_config: the Plan '{plan.name}' needs {needs}. {_keys(client_config)}. Workers could not "
            "run the Plan without: add what it needs, under that name"
        )


def config_value(item: PlanInput, spec: PlanInputSpec, client_config: Mapping[str, Any]) -> Any:
    """What a worker passes for an input that stands for a value of the client_config.

    Args:
        item: the input.
        spec: names the key.
        client_config: numbers, or lists of numbers, by key.

    Returns:
        A number, or a tensor for a list.

    Raises:
        ConfigError: the key is missing, or its value is nothing for this input.
    """
    fault = _fault(item, spec, client_config)
    if fault is not None:
        raise ConfigError(f"the Plan needs {fault}, in the client_config. {_keys(client_config)}")
    return _argument(item, client_config[spec.name or ""])


def _keys(client_config: Mapping[str, Any]) -> str:
    return f"Its keys are: {', '.join(map(str, client_config)) or 'none'}"


def _fault(item: PlanInput, spec: PlanInputSpec, client_config: Mapping[str, Any]) -> str | None:
    """What is wrong with the key that a spec names; None for other specs, and when all is well."""
    if spec.type != PlanInputSpec.TYPE_CLIENT_CONFIG_PARAM:
        return None
    name = spec.name or ""
    if name not in client_config:
        return f"'{name}', which is not there"
    value = client_config[name]
    if value is None:
        return f"'{name}', which is null"
    if (isinstance(value, bool) and item.dtype != "bool") or not isinstance(value, int | float | list):
        return f"'{name}' as a number or a list of numbers, and it is a {type(value).__name__}"
    try:
        tensor = item.tensor(_argument(item, value))
    except (PlanInputError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        return f"'{name}', whose value does not fit ({error})"
    finite = not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
    return None if finite else f"'{name}' as a finite number of the dtype {item.dtype}"


def _argument(item: PlanInput, value: Any) -> Any:
    """A list as a tensor, of the input's dtype where only digits can be lost by it."""
    if not isinstance(value, list):
        return value
    dtype = DTYPES[item.dtype] if item.dtype else None
    return torch.tensor(value, dtype=dtype if dtype and dtype.is_floating_point else None)


def refusal_of_rows(plan: Plan, rows: int) -> str | None:
    """Why the Plan cannot run on a batch of so many rows, although it runs on one row more.

    Batch normalisation, for one, needs several values to normalise over. The Plan runs on shapes alone.

    Args:
        plan: the Plan; one that does not say the shapes of its inputs is not judged.
        rows: how many samples the batch would have.

    Returns:
        The reason; None when it can run, when nobody can say, or when another batch would not do either.
    """
    if any(item.shape is None or item.dtype is None for item in plan.inputs):
        return None
    try:
        plan.check([item.with_rows(rows) for item in plan.inputs], plan.limits)
    except PlanExecutionError as refusal:
        return str(refusal) if plan.works_with(rows + 1) else None
    except PlanError:  # not a matter of rows: it will be said when the Plan runs
        return None
    return None
