"""Plan messages as PySyft 0.2.9 reads them, which is how a PyGrid node takes Plans, and writes them again.

PySyft needs a placeholder for each value of a role, and has one description for each; no value may have the
number 0; it has no form for an argument that is absent, so a text stands for it in the op list, which PySyft
does not run; and it loads the TorchScript archive with torch 1.4. What it reads it writes again with new ids
and without the names of inputs; the tags that say what inputs and outputs stand for stay.
"""

import io
import zipfile
from collections.abc import Iterable, Iterator

from fedplan.errors import PlanFormatError
from fedplan.plan.message.codec import ABSENT, Key, key_of
from fedplan.plan.spec import input_from_tags, output_from_tags
from fedplan.wire import schema

NEWEST_ARCHIVE = 2
"""Version of TorchScript archives that torch 1.4 reads at most."""


def for_pysyft(data: bytes) -> bytes:
    """A Plan message in the form that PySyft reads.

    Args:
        data: a ``syft_proto.execution.v1.Plan``.

    Raises:
        WireError: it is no Plan message.
        PlanFormatError: it holds what PySyft cannot read; says what, and what to do.
    """
    message = schema.Plan.decode(data)
    if message.torchscript and not is_loadable(message.torchscript):
        raise PlanFormatError(
            f"the Plan '{message.name}' holds a TorchScript archive that PySyft's torch 1.4 cannot load: "
            "leave the variant torchscript out"
        )
    if message.role is not None:
        for arg in _arguments(message.role):
            if arg.which("arg") is None:
                arg.arg_str = ABSENT
    for kind, role in {"torch": message.role, **message.roles}.items():
        if role is not None:
            _check_arguments(message.name, kind, role)
            _number_from_one(role)
            role.placeholders = _placeholders(message.name, role)
    return message.encode()


def is_loadable(archive: bytes) -> bool:
    """Whether torch 1.4, which PySyft 0.2.9 has, loads a TorchScript archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as file:
            name = next((name for name in file.namelist() if name.endswith("/version")), None)
            return name is not None and int(file.read(name)) <= NEWEST_ARCHIVE
    except (zipfile.BadZipFile, ValueError):
        return False


def _number_from_one(role: schema.Role) -> None:
    """Adds one to all numbers of values, if one of them is 0: PySyft takes that for no id, and draws one."""
    ids = list(_ids(role))
    if any(id.id_int == 0 for id in ids):
        for id in ids:
            id.id_int = None if id.id_int is None else id.id_int + 1


def _placeholders(plan: str, role: schema.Role) -> list[schema.Placeholder]:
    """One placeholder for each value of a role, those that it has first."""
    found: dict[Key, schema.Placeholder] = {}
    for placeholder in role.placeholders:
        key = key_of(placeholder.id)
        found[key] = _merged(plan, found[key], placeholder) if key in found else placeholder
    for id in _ids(role):
        found.setdefault(key_of(id), schema.Placeholder(id=id))
    return list(found.values())


def _merged(plan: str, one: schema.Placeholder, other: schema.Placeholder) -> schema.Placeholder:
    """One description of a value that has two, such as an input that is an output too."""
    tags = list(dict.fromkeys([*one.tags, *other.tags]))
    for read in (input_from_tags, output_from_tags):
        labels = {spec.label for tag in tags if (spec := read([tag])) is not None}
        if len(labels) > 1:
            raise PlanFormatError(
                f"the Plan '{plan}' has one value for {' and '.join(sorted(labels))}, and PySyft keeps one "
                "description of each value: let the step return a copy of it, such as `value * 1`"
            )
    return schema.Placeholder(
        id=one.id,
        tags=tags,
        description=one.description or other.description,
        expected_shape=one.expected_shape or other.expected_shape,
    )


def _check_arguments(plan: str, kind: str, role: schema.Role) -> None:
    """Refuses an argument that is absent, which a client that runs the role would have to read.

    Raises:
        PlanFormatError: there is one.
    """
    for action in role.actions:
        if any(arg.which("arg") is None for arg in _within((*action.args, *action.kwargs.values()))):
            raise PlanFormatError(
                f"the {kind} variant of the Plan '{plan}' calls {action.command} without one of its "
                "arguments, for which PySyft has no form"
            )


def _ids(role: schema.Role) -> Iterator[schema.Id]:
    """The ids of all values of a role, wherever they stand: each is a message of its own."""
    described = [*role.placeholders, *(role.state.placeholders if role.state is not None else ())]
    made = [returned for action in role.actions for returned in action.return_placeholder_ids]
    read = [arg.arg_placeholder_id for arg in _arguments(role)]
    targets = [action.target_placeholder_id for action in role.actions]
    holders = (*described, *made, *read, *targets)
    held = [holder.id for holder in holders if holder is not None and holder.id is not None]
    yield from (*held, *role.input_placeholder_ids, *role.output_placeholder_ids)


def _arguments(role: schema.Role) -> Iterator[schema.Arg]:
    """All arguments of a role's actions, and what is in lists."""
    for action in role.actions:
        yield from _within((*action.args, *action.kwargs.values()))


def _within(args: Iterable[schema.Arg]) -> Iterator[schema.Arg]:
    for arg in args:
        if arg.arg_list is None:
            yield arg
        else:
            yield from _within(arg.arg_list.args)
