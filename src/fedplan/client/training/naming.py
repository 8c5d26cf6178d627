"""Plans that do not say what their inputs and outputs stand for, as PySyft's: trained by arguments' names.

PySyft's Plans take ``(data, target, batch_size, lr, params)`` and return ``(loss, accuracy, *params)``, or
something near to it, and say nothing of it but how the arguments nest. Who knows the Plan names them.
Where nobody does, the list is the parameters; data and targets come first; the learning rate is the number on
which all trained parameters depend, and nothing else that the Plan returns; and one more number is the batch
size. What is not of this form is refused: a batch size in the place of a learning rate trains, and wrongly.
"""

import collections
import itertools
import math
from collections.abc import Sequence

from fedplan.errors import ConfigError
from fedplan.plan import Plan, PlanInput, PlanInputSpec, PlanOutputSpec
from fedplan.plan.ir.graph import Graph

PARAMS = "params"
"""Stands for all parameters of the model, in order."""

_INPUTS = {
    "data": PlanInputSpec.TYPE_DATA,
    "target": PlanInputSpec.TYPE_TARGET,
    "batch_size": PlanInputSpec.TYPE_BATCH_SIZE,
}
_LOSS = "loss"

_ORDER = "data,target,batch_size,lr,params"
_ADVICE = (
    f"Name them in the order of the Plan's arguments: inputs={_ORDER.split(',')} (on the command line "
    f"--inputs {_ORDER}), where any other name is a key of the client_config"
)


def inputs_by_name(plan: Plan, names: Sequence[str]) -> list[PlanInputSpec]:
    """One spec for each input of the Plan, by the names of its arguments.

    Args:
        plan: the Plan.
        names: one for each argument: ``data``, ``target``, ``batch_size``, ``params``, or a key of the
            client_config, such as ``lr``. ``params`` is a list where the Plan says how its arguments nest,
            else as many inputs as the other names leave.

    Raises:
        ConfigError: they do not fit the Plan's arguments.
    """
    twice = [name for name, count in collections.Counter(names).items() if count > 1]
    if twice:
        raise ConfigError(f"inputs name '{twice[0]}' twice, and an argument stands for one thing. {_ADVICE}")
    if PARAMS not in names:
        raise ConfigError(f"inputs do not name '{PARAMS}', and without nothing would be trained. {_ADVICE}")
    lengths = _lengths(plan, names)
    if len(names) != len(lengths):
        raise ConfigError(
            f"inputs name {len(names)} arguments, and the Plan '{plan.name}' takes {len(lengths)}: "
            f"{_listed(lengths)}. {_ADVICE}"
        )
    specs = []
    for name, length in zip(names, lengths, strict=True):
        if name != PARAMS and length is not None:
            raise ConfigError(
                f"inputs name '{name}' where the Plan '{plan.name}' takes a list of {length}; it takes "
                f"{_listed(lengths)}. {_ADVICE}"
            )
        specs += _parameters(length or 1) if name == PARAMS else [_spec(name)]
    return specs


def inputs_by_nesting(plan: Plan) -> list[PlanInputSpec] | None:
    """One spec for each input of the Plan, where how its arguments nest and what depends on them tells it.

    Returns:
        None when the Plan does not say how its arguments nest.

    Raises:
        ConfigError: it says so, and that leaves a doubt.
    """
    lengths = _nesting(plan)
    if lengths is None:
        return None
    params, before = lengths[-1], plan.inputs[: len(lengths) - 1]
    if params is None or any(length is not None for length in lengths[:-1]):
        raise _doubt(plan, lengths, "the parameters are not its one list, and the last of its arguments")
    data = [*itertools.takewhile(lambda item: not _is_number(item), before)]
    numbers = range(len(data), len(before))
    if not 1 <= len(data) <= 2 or not all(_is_number(before[place]) for place in numbers):
        raise _doubt(plan, lengths, "what comes first is not data, targets and then numbers")
    trained = set(range(len(plan.outputs))[-params:])
    rates = [place for place in numbers if reached(plan.graph, place) == trained]
    if len(rates) > 1 or len(numbers) - len(rates) > 1:
        raise _doubt(plan, lengths, "nothing tells its learning rate from a batch size and other numbers")
    names = ["data", "target"][: len(data)]
    names += ["lr" if place in rates else "batch_size" for place in numbers]
    return inputs_by_name(plan, [*names, PARAMS])


def outputs_by_name(plan: Plan, names: Sequence[str], params: int) -> list[PlanOutputSpec]:
    """Specs for the outputs of the Plan, by their names.

    Args:
        plan: the Plan.
        names: in order: ``loss``, ``params``, or whatever a metric shall be called.
        params: how many tensors ``params`` stands for.

    Raises:
        ConfigError: they do not fit what the Plan returns.
    """
    if names.count(PARAMS) != 1:
        raise ConfigError(
            f"outputs must name '{PARAMS}' once, such as outputs=['{_LOSS}', 'accuracy', '{PARAMS}']"
        )
    if len(names) - 1 + params != len(plan.outputs):
        raise ConfigError(
            f"outputs name {len(names) - 1} values beside {params} parameters, and the Plan '{plan.name}' "
            f"returns {len(plan.outputs)} values"
        )
    specs = []
    for name in names:
        if name == PARAMS:
            specs += [PlanOutputSpec(PlanOutputSpec.TYPE_MODEL_PARAM, index=i) for i in range(params)]
        elif name == _LOSS:
            specs.append(PlanOutputSpec(PlanOutputSpec.TYPE_LOSS))
        else:
            specs.append(PlanOutputSpec(PlanOutputSpec.TYPE_METRIC, name))
    return specs


def outputs_by_place(plan: Plan, inputs: Sequence[PlanInputSpec]) -> list[PlanOutputSpec]:
    """Specs for the outputs of a Plan that does not say what they are: the loss, metrics, the parameters.

    The metrics are named by their place: `output 1`.

    Args:
        plan: the Plan.
        inputs: what its inputs stand for.

    Raises:
        ConfigError: that is not what it returns, as far as can be told.
    """
    params = sum(spec.type == PlanInputSpec.TYPE_MODEL_PARAM for spec in inputs)
    others = len(plan.outputs) - params
    if others < 0:
        raise ConfigError(
            f"the Plan '{plan.name}' returns {len(plan.outputs)} values, and takes {params} parameters: it "
            "does not train them all"
        )
    trained = set(range(others, len(plan.outputs)))
    for place, spec in enumerate(inputs):
        if spec.type == PlanInputSpec.TYPE_CLIENT_CONFIG_PARAM and spec.name == "lr":
            _check_rate(plan, place, trained)
    names = [_LOSS, *(f"output {place}" for place in range(1, others))][:others]
    return outputs_by_name(plan, [*names, PARAMS], params)


def _check_rate(plan: Plan, place: int, trained: set[int]) -> None:
    """Checks that a learning rate does what one does.

    Raises:
        ConfigError: it does something else, or the parameters are not what the Plan returns last.
    """
    found = reached(plan.graph, place)
    if found == trained:
        return
    raise ConfigError(
        f"input {place} of the Plan '{plan.name}' is said to be the learning rate. On one depend the trained "
        f"parameters alone, taken to be the last {len(trained)} values that it returns; on this one depend "
        f"the values {sorted(found) or 'none'} (from 0). Correct inputs, or pass outputs=['{_LOSS}', …] too"
    )


def reached(graph: Graph, place: int) -> set[int]:
    """The places of the outputs that depend on an input."""
    alive = {graph.inputs[place]}
    for node in graph.nodes:
        if not alive.isdisjoint(node.refs()):
            alive.update(node.results)
    return {place for place, number in enumerate(graph.outputs) if number in alive}


def _nesting(plan: Plan) -> list[int | None] | None:
    """For each argument the length of its list, None for a tensor; None when the Plan does not say."""
    paths = [item.argument for item in plan.inputs if item.argument is not None]
    if not paths or len(paths) != len(plan.inputs):
        return None
    groups = [list(group) for _, group in itertools.groupby(paths, key=lambda path: path[0])]
    return [None if len(group[0]) == 1 else len(group) for group in groups]


def _lengths(plan: Plan, names: Sequence[str]) -> list[int | None]:
    """Like `_nesting`; where the Plan has no list, or does not say, `params` is one of all that are left."""
    nesting = _nesting(plan)
    if nesting is not None and any(length is not None for length in nesting):
        return nesting
    left = len(plan.inputs) - (len(names) - 1)
    if left < 1:
        return [None] * len(plan.inputs)
    return [left if name == PARAMS else None for name in names]


def _is_number(item: PlanInput) -> bool:
    """Whether the Plan was made with one number there, alone or as a tensor of one dimension."""
    return item.made_with is not None and len(item.made_with) < 2 and math.prod(item.made_with) == 1


def _spec(name: str) -> PlanInputSpec:
    kind = _INPUTS.get(name)
    return (
        PlanInputSpec(PlanInputSpec.TYPE_CLIENT_CONFIG_PARAM, name) if kind is None else PlanInputSpec(kind)
    )


def _parameters(count: int) -> list[PlanInputSpec]:
    return [PlanInputSpec(PlanInputSpec.TYPE_MODEL_PARAM, index=index) for index in range(count)]


def _doubt(plan: Plan, lengths: Sequence[int | None], why: str) -> ConfigError:
    return ConfigError(
        f"the Plan '{plan.name}' does not say what its arguments stand for, only how they nest: "
        f"{_listed(lengths)}; and {why}. {_ADVICE}"
    )


def _listed(lengths: Sequence[int | None]) -> str:
    """Arguments in words: ``a tensor, a tensor, a list of 2``."""
    return ", ".join("a tensor" if length is None else f"a list of {length}" for length in lengths)
