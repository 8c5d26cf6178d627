"""A Plan's graph in the vocabulary of tfjs, as the role that browsers run."""

from collections.abc import Iterable, Mapping, Sequence

import torch

from fedplan.errors import TranslationError
from fedplan.plan.ir.graph import Graph, Node, Ref
from fedplan.plan.message.tensors import from_torch
from fedplan.plan.signature import PlanInput
from fedplan.plan.variants.batches import measured
from fedplan.plan.variants.expand import expand
from fedplan.plan.variants.expansions import PLAINER
from fedplan.plan.variants.tfjs import (
    convolutions,
    creation,
    gathering,
    indexing,
    layers,
    ordering,
    pointwise,
    pools,
    random_inputs,
    reductions,
    shapes,
)
from fedplan.plan.variants.tfjs.emitter import Action, Argument, Term, needed
from fedplan.plan.variants.tfjs.translator import Rule, Translator, UnsayableError
from fedplan.wire import schema, write_tensor

RULES: Mapping[str, Rule] = {
    **pointwise.RULES,
    **reductions.RULES,
    **shapes.RULES,
    **creation.RULES,
    **gathering.RULES,
    **indexing.RULES,
    **ordering.RULES,
    **layers.RULES,
    **convolutions.RULES,
    **pools.RULES,
}
"""Every operation that can be said in tfjs; the others are first decomposed into these."""


def translate(graph: Graph, inputs: Sequence[PlanInput]) -> schema.Role:
    """Says a graph with functions that tfjs-core 1.2.5 to 1.7.4 have.

    A value of the graph that exists in the translation too has the same id in both, so that they can be
    compared value by value. Random inputs are none of the role: it draws them itself, by actions that have
    the ids of the inputs' values.

    Args:
        graph: a verified graph.
        inputs: its inputs; each must say its shape and dtype.

    Raises:
        TranslationError: an operation cannot be said; names it, the author's line, and what to do instead.
        UnsupportedOpError: PyTorch decomposes an operation into one that no Plan may hold.
        PlanFormatError: an input does not say its shape or dtype, or asks for random numbers of a
            distribution that does not exist.
    """
    expanded = expand(graph, inputs, RULES.keys(), PLAINER.keys())
    t = Translator(expanded.graph, *measured(expanded.graph, inputs))
    chance = {
        number: item for number, item in zip(expanded.graph.inputs, inputs, strict=True) if item.is_random
    }
    known = [number for number in expanded.graph.inputs if number not in chance]
    given = [t.new() for _ in known]
    held = [t.new() for _ in expanded.graph.constants]
    t.values.update(zip(known, given, strict=True))
    for (number, value), term in zip(expanded.graph.constants, held, strict=True):
        t.values[number] = t.call("cast", term, "bool") if value.dtype == torch.bool else term
    for node in expanded.graph.nodes:
        _draw(t, expanded.graph, chance, node.refs())
        _apply(t, node)
    _draw(t, expanded.graph, chance, expanded.graph.outputs)
    outputs = _outputs(t, expanded.graph, {*given, *held})
    ids = _ids(t, graph, {new: old for old, new in expanded.numbers.items()})
    constants = [value for _, value in expanded.graph.constants]
    return schema.Role(
        id=_id(0),
        actions=[_action(action, ids) for action in needed(t.actions, outputs)],
        state=_state([ids[term.id] for term in held], constants),
        placeholders=[
            *(_placeholder(ids[term.id], f"#input-{index}") for index, term in enumerate(given)),
            *(_placeholder(ids[term.id], f"#output-{index}") for index, term in enumerate(outputs)),
        ],
        input_placeholder_ids=[_id(ids[term.id]) for term in given],
        output_placeholder_ids=[_id(ids[term.id]) for term in outputs],
    )


def _draw(t: Translator, graph: Graph, chance: Mapping[int, PlanInput], numbers: Iterable[int]) -> None:
    """Draws those of the values that are random inputs and are read for the first time."""
    for number in numbers:
        if number in chance and number not in t.values:
            t.values[number] = random_inputs.drawn(t, graph, number, chance[number])


def _apply(t: Translator, node: Node) -> None:
    rule = RULES.get(node.op)
    if rule is None:
        why = "There is no rule for it; compute it from other operations."
        raise TranslationError(node.op, "tfjs", source=node.source, why=why)
    try:
        made = rule(t, node)
    except UnsayableError as reason:
        raise reason.error(node) from None
    results = made if isinstance(made, tuple) and not isinstance(made, Term) else (made,)
    t.values.update(zip(node.results, results, strict=True))
    t.note(node)


def _outputs(t: Translator, graph: Graph, taken: set[Term]) -> list[Term]:
    """Terms of the outputs, each with memory of its own: clients free their old parameters after a step."""
    outputs = []
    for number in graph.outputs:
        try:
            term = t.tensor(Ref(number))
        except UnsayableError as reason:
            maker = next(node for node in graph.nodes if number in node.results)
            raise reason.error(maker) from None
        outputs.append(t.copy(term) if term in taken else term)
        taken.add(term)
    return outputs


def _ids(t: Translator, original: Graph, numbers: Mapping[int, int]) -> dict[int, int]:
    """The id of each term: the number that its value has in the original graph, or one above all of them."""
    ids: dict[int, int] = {}
    for value, term in t.values.items():
        number = numbers.get(value)
        if isinstance(term, Term) and number is not None and number not in ids.values():
            ids.setdefault(term.id, number)
    above = 1 + max(original.numbers(), default=0)
    for term_id in range(t.count_of_terms):
        ids.setdefault(term_id, above + term_id)
    return ids


def _state(ids: Sequence[int], constants: Sequence[torch.Tensor]) -> schema.State:
    """The Plan's own tensors, as float32 or int32: syft.js reads no others."""
    state = schema.State()
    for index, (id, value) in enumerate(zip(ids, constants, strict=True)):
        plain = value.to(torch.float32 if value.dtype.is_floating_point else torch.int32)
        state.placeholders.append(_placeholder(id, f"#state-{index}"))
        state.tensors.append(schema.StateTensor(torch_tensor=write_tensor(from_torch(plain), id)))
    return state


def _action(action: Action, ids: Mapping[int, int]) -> schema.ComputationAction:
    target = action.target
    return schema.ComputationAction(
        command=f"tf.{action.command}" if target is None else action.command,
        target_placeholder_id=None if target is None else _reference(ids[target.id]),
        args=[_argument(arg, ids) for arg in action.args],
        return_placeholder_ids=[_reference(ids[action.result])],
    )


def _placeholder(id: int, tag: str) -> schema.Placeholder:
    return schema.Placeholder(id=_id(id), tags=[tag])


def _id(number: int) -> schema.Id:
    return schema.Id(id_int=number)


def _reference(number: int) -> schema.PlaceholderId:
    return schema.PlaceholderId(id=_id(number))


def _argument(arg: Argument, ids: Mapping[int, int]) -> schema.Arg:
    if isinstance(arg, Term):
        return schema.Arg(arg_placeholder_id=_reference(ids[arg.id]))
    if isinstance(arg, tuple):
        return schema.Arg(arg_list=schema.ArgList(args=[_argument(item, ids) for item in arg]))
    if isinstance(arg, bool):
        return schema.Arg(arg_bool=arg)
    if isinstance(arg, int):
        return schema.Arg(arg_int=arg)
    if isinstance(arg, float):
        return schema.Arg(arg_float=arg)
    return schema.Arg(arg_str=arg)
