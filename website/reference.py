"""The reference: a page for each area of the public API, made from the docstrings.

The source is read and not run, so nothing of what it imports needs to be installed.
"""

import logging
import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

import griffe

SOURCE = Path(__file__).parents[1] / "src"
AREAS = {
    "owner": (
        "Model owners",
        "Hosting a model, waiting for it, reading what happened.",
        "fedplan.client.owner",
    ),
    "worker": ("Workers", "Taking part in cycles, in one call or step by step.", "fedplan.client"),
    "plans": ("Plans", "Making Plans of PyTorch functions, looking into them, running them.", "fedplan.plan"),
    "data": (
        "Data",
        "Data sets, loaders, transforms, and the partitioning of data over clients.",
        "fedplan.data",
    ),
    "simulation": ("Simulation", "Many clients on one machine.", "fedplan.simulation"),
    "wire": ("Messages", "States, and what a report says beside its diff.", "fedplan.wire"),
    "errors": ("Errors", "Everything that fedplan raises.", "fedplan"),
}
"""For each page its title, what it is about, and the package whose names it has; the first that fits."""

_WIDTH = 76
"""Characters of a line of code that a page shows without a scrollbar."""

_TWIN = "blocking_twin"
_HEADINGS = {"parameters": "Parameters", "attributes": "Attributes", "returns": "Returns", "raises": "Raises"}


def pages() -> dict[str, str]:
    """The Markdown of each page, by its file name.

    Raises:
        ValueError: a public name is not found, or has no docstring that can be read.
    """
    package = _package()
    found: dict[str, list[griffe.Object]] = {area: [] for area in AREAS}
    for name in public_names(package):
        thing = resolved(package, name)
        found[_area(thing)].append(thing)
    return {f"{area}.md": "\n".join(_page(area, things)) for area, things in found.items()}


def public_names(package: griffe.Module) -> list[str]:
    """`fedplan.__all__`, in its order."""
    return [str(name).strip("'\"") for name in package.exports or ()]


def resolved(package: griffe.Module, name: str) -> griffe.Object:
    """What a public name stands for, where it is defined."""
    found = package[name]
    thing = found.final_target if isinstance(found, griffe.Alias) else found
    if isinstance(thing, griffe.Module) and name in thing.members:  # a module that is called as its function
        thing = thing[name]
    if not (thing.docstring or _coroutine(thing)):
        raise ValueError(f"fedplan.{name} has no docstring")
    return thing


def _coroutine(thing: griffe.Object) -> griffe.Function | None:
    """The coroutine function of which `thing = blocking_twin(coroutine)` is the blocking form."""
    if (
        not isinstance(thing, griffe.Attribute)
        or not str(thing.value).startswith(f"{_TWIN}(")
        or not thing.parent
    ):
        return None
    found = thing.parent[str(thing.value)[len(_TWIN) + 1 : -1]]
    assert isinstance(found, griffe.Function)
    return found


def _blocking(thing: griffe.Object) -> str | None:
    """The name of the blocking form that has the documentation of a coroutine function `…_async`."""
    name = thing.name.removesuffix("_async")
    is_told = name != thing.name and thing.parent is not None and name in thing.parent.members
    return name if is_told and isinstance(thing.parent, griffe.Class) else None


def _package() -> griffe.Module:
    logging.getLogger("griffe").setLevel(logging.ERROR)
    package = griffe.load(
        "fedplan", search_paths=[str(SOURCE)], docstring_parser="google", resolve_aliases=True
    )
    assert isinstance(package, griffe.Module)
    return package


def _area(thing: griffe.Object) -> str:
    path = f"{thing.canonical_path}."
    return next(area for area, (_, _, package) in AREAS.items() if path.startswith(f"{package}."))


def _page(area: str, things: list[griffe.Object]) -> Iterator[str]:
    title, about, _ = AREAS[area]
    yield f"# {title}\n\n{about} This page is made from the docstrings.\n"
    for thing in things:
        yield from _entry(thing, "##")


def _entry(thing: griffe.Object, level: str, owner: str = "") -> Iterator[str]:
    """The heading, the signature and the documentation of a name, and then of its members."""
    yield f"{level} `{owner}{thing.name}`\n"
    if coroutine := _coroutine(thing):
        yield from _signature(coroutine, f"{owner}{thing.name}", is_blocking=True)
        if coroutine.name.endswith("_async"):  # then the documentation stands here, and not there
            yield from _documentation(coroutine)
        yield f"This is the blocking form of `{owner}{coroutine.name}`.\n"
        return
    yield from _signature(thing, f"{owner}{thing.name}")
    if blocking := _blocking(thing):
        yield f"The coroutine of `{owner}{blocking}`, with its arguments, its result and its errors.\n"
        return
    yield from _documentation(thing)
    if isinstance(thing, griffe.Module):
        for error in thing.classes.values():
            yield from _entry(error, f"{level}#")
    if isinstance(thing, griffe.Class):
        for member in _members(thing):
            yield from _entry(member, f"{level}#", f"{thing.name}.")


def _members(thing: griffe.Class) -> Iterator[griffe.Object]:
    """Public members with a docstring of their own, those of base classes too; of one kind of thing first."""
    told = {
        item.name
        for section in _sections(thing)
        if section.kind.value == "attributes"
        for item in section.value
    }
    found = [m.final_target if isinstance(m, griffe.Alias) else m for m in thing.all_members.values()]
    for member in sorted(found, key=lambda member: not member.is_attribute or _coroutine(member) is not None):
        name = member.name
        if not name.startswith("_") and name not in told and (member.docstring or _coroutine(member)):
            yield member


def _signature(thing: griffe.Object, name: str, *, is_blocking: bool = False) -> Iterator[str]:
    if isinstance(thing, griffe.Attribute):
        if thing.annotation is not None:
            yield f"```python\n{name}: {thing.annotation}\n```\n"
        return
    if not isinstance(thing, griffe.Function | griffe.Class):
        return
    is_bound = isinstance(thing, griffe.Class) or isinstance(thing.parent, griffe.Class)
    given = _parameters(thing.parameters, is_bound and "staticmethod" not in thing.labels)
    returned = (
        f" -> {thing.returns}" if isinstance(thing, griffe.Function) and thing.returns is not None else ""
    )
    before = "async " if "async" in thing.labels and not is_blocking else ""
    line = f"{before}{name}({', '.join(given)}){returned}"
    if len(line) > _WIDTH:
        line = f"{before}{name}(\n" + "".join(f"    {each},\n" for each in given) + f"){returned}"
    if given or isinstance(thing, griffe.Function):
        yield f"```python\n{line}\n```\n"


def _parameters(parameters: griffe.Parameters, is_bound: bool) -> list[str]:
    written: list[str] = []
    kinds = griffe.ParameterKind
    stars = {kinds.var_positional: "*", kinds.var_keyword: "**"}
    for parameter in list(parameters)[1 if is_bound and next(iter(parameters), None) is not None else 0 :]:
        if parameter.kind is kinds.keyword_only and not any(each.startswith("*") for each in written):
            written.append("*")
        kind = "" if parameter.annotation is None else f": {parameter.annotation}"
        given = "" if parameter.default is None or parameter.kind in stars else f" = {parameter.default}"
        written.append(f"{stars.get(parameter.kind, '')}{parameter.name}{kind}{given}")
    return written


def _sections(thing: griffe.Object) -> list[griffe.DocstringSection]:
    return thing.docstring.parsed if thing.docstring else []


def _documentation(thing: griffe.Object) -> Iterator[str]:
    for section in _sections(thing):
        kind = section.kind.value
        if kind == "text":
            yield f"{_fenced(section.value)}\n"
        elif kind == "admonition":
            yield f"**{section.title}**: {section.value.contents}\n"
        elif kind in _HEADINGS:
            yield f"**{_HEADINGS[kind]}**\n"
            yield "\n".join(_items(section.value)) + "\n"
        else:
            raise ValueError(
                f"the docstring of {thing.canonical_path} has a section of {kind}, which no page can show"
            )


def _fenced(text: str) -> str:
    """A text in which indented code behind `::` stands between fences."""
    code = re.compile(r"::\n\n((?:    .*(?:\n|$)|\n)+)")
    return code.sub(lambda found: f"\n\n```python\n{textwrap.dedent(found[1]).rstrip()}\n```\n\n", text)


def _items(items: Iterable[griffe.DocstringElement]) -> Iterator[str]:
    for item in items:
        name = getattr(item, "name", "") or ""
        kind = "" if item.annotation is None else f"`{item.annotation}`"
        what = ": ".join(part for part in (f"`{name}`" if name else "", kind) if part)
        text = item.description.replace("\n", "\n    ")
        yield f"- {what}: {text}" if what else f"- {text}"
