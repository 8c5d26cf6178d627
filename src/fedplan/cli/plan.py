"""`fedplan plan`: looking into Plans, and running them."""

import dataclasses
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedplan.cli.files import about_file, read_plan, read_state, write_whole
from fedplan.cli.options import AsJson, OutFile, PlanFile, read_option
from fedplan.cli.terminal import echo, print_json, print_table, shape_text
from fedplan.text import counted, in_bytes

if TYPE_CHECKING:
    from fedplan.plan.listing import Listing

_FEW = 8
"""Names that are told of a list of them."""

_INDENTED: dict[str, Any] = {
    "initial_indent": "  ",
    "subsequent_indent": "  ",
    "break_long_words": False,
    "break_on_hyphens": False,
}

app = typer.Typer(no_args_is_help=True, help="Look into Plans, check them, and run them.")


@app.command("show")
def show(
    file: PlanFile,
    batch: Annotated[
        int, typer.Option("--batch", metavar="N", min=1, help="Batch size for shapes, memory and work.")
    ] = 32,
    diff: Annotated[
        Path | None,
        read_option("--diff", "OTHER.pb", "Show instead how OTHER.pb differs from this Plan."),
    ] = None,
    svg: Annotated[
        Path | None,
        typer.Option(
            "--svg", metavar="FILE.svg", dir_okay=False, help="Also draw the Plan's graph into a file."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show all that a Plan does: what goes in, what comes out, every operation, and what would be reported.

    Where the Plan says the shapes of its inputs, the shape of each result, and the memory and the work of one
    run, are shown too, for a batch of the given size.

    With `--diff`, lines that only PLAN.pb has begin with -, those that only OTHER.pb has with +. An operation
    that reads another value counts as another one; numbers of values alone do not count.

    `--svg` draws the graph; a browser opens the file, and shows an operation's arguments where the pointer
    rests on it.

    Examples:

    ```
    fedplan plan show plan.pb
    fedplan plan show old.pb --diff new.pb
    fedplan plan show plan.pb --svg plan.svg
    ```
    """
    from fedplan.cli.plan_difference import show_difference
    from fedplan.plan.drawing import draw_plan
    from fedplan.plan.listing import list_plan

    plan = read_plan(file)
    with about_file(file):
        listing = list_plan(plan, file.stat().st_size, batch)
        if svg is not None:
            write_whole(svg, draw_plan(plan, _shapes(listing)).encode())
    if diff is not None:
        other = read_plan(diff)
        with about_file(diff):
            show_difference(
                (file, plan, listing), (diff, other, list_plan(other, diff.stat().st_size, batch)), as_json
            )
    elif as_json:
        print_json(listing)
    else:
        echo("\n".join(lines_of(listing)))


@app.command("run")
def run(
    file: PlanFile,
    inputs: Annotated[
        Path, read_option("--inputs", "STATE.pb", "The arguments, flattened in order: one tensor each.")
    ],
    out: OutFile,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            metavar="N",
            min=0,
            help="Draw the random inputs with this seed, as for step 0 of cycle 0; without it, the State "
            "must hold them.",
        ),
    ] = None,
) -> None:
    """Run a Plan on the tensors of a State, and write what it returns as a State.

    In Python, `fedplan.SyftModel(params=[...]).serialize()` gives the bytes of a State of some tensors, and
    `fedplan.SyftModel.parse(data).params` the tensors of its bytes.

    Example:

    ```
    fedplan plan run plan.pb --inputs arguments.pb --out results.pb
    ```
    """
    from fedplan.plan import RandomStream, from_torch, to_torch
    from fedplan.wire import State

    plan = read_plan(file)
    arguments = read_state(inputs).tensors
    with about_file(file):
        results = plan(*map(to_torch, arguments), random=None if seed is None else RandomStream(seed))
    write_whole(out, State.of(map(from_torch, results)).serialize())
    typer.echo(f"{out}: {len(results)} tensors", err=True)


@app.command("check")
def check(
    file: PlanFile,
    inputs: Annotated[
        Path | None,
        read_option(
            "--inputs",
            "STATE.pb",
            "The arguments to try it with, flattened in order; seeded random ones by default. Plans made "
            "elsewhere do not say what they take, and need them.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that a Plan computes the same in every client that it is made for.

    Python workers run its list of operations, phones its TorchScript, browsers its tfjs. What the file holds
    of these is run on the same inputs and compared; it is an error when one differs by more than 1e-4. What
    it does not hold, and would get when it is hosted, is made and compared too.
    """
    from fedplan.cli.variants import examine

    plan = read_plan(file)
    arguments = None if inputs is None else read_state(inputs).tensors
    with about_file(file):
        findings = examine(plan, arguments)
    if as_json:
        print_json([dataclasses.asdict(finding) for finding in findings])
    else:
        print_table(
            ["variant", "where", "greatest error, or why not"], [finding.row() for finding in findings]
        )


def lines_of(listing: "Listing") -> list[str]:
    """A listing for people."""
    operations = [(item["text"], _results(item)) for item in listing["operations"]]
    return [
        f"Plan '{listing['name']}', {len(operations)} operations, {in_bytes(listing['bytes'])}",
        *([f"held as {', '.join(listing['variants'])}"] if len(listing["variants"]) > 1 else []),
        *_dp_sgd(listing["dp_sgd"]),
        "",
        *_section("inputs", [_value(item) for item in listing["inputs"]]),
        *_section("constants", [_value(item) for item in listing["constants"]]),
        *_section("outputs", [_value(item) for item in listing["outputs"]]),
        *_section("operations", operations),
        *_uses(listing),
        *_section("what a worker's report would tell the grid", _told(listing["leaves"])),
        *_section("what stays with the worker", _kept(listing["leaves"])),
        _estimate(listing),
    ]


def _dp_sgd(constants: dict[str, Any] | None) -> list[str]:
    from fedplan.plan import DpSgd

    return [] if constants is None else [f"{DpSgd(**constants)} (its author says)"]


def _section(title: str, rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows under a title, in columns; a cell that is much wider than the others does not push them apart."""
    if not rows:
        return []
    widths = [min(max(map(len, column)), 60) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width) for row in rows
    ]
    return [title, *(f"  {line.rstrip()}" for line in lines), ""]


def _value(item: dict[str, Any]) -> tuple[str, ...]:
    shape = "" if item["shape"] is None else shape_text(item["shape"])
    return item["value"], item["name"], item.get("kind") or "", shape, item["dtype"] or ""


def _results(item: dict[str, Any]) -> str:
    return ", ".join("number" if shape is None else shape_text(shape) for shape in item["shapes"])


def _uses(listing: "Listing") -> list[str]:
    """The operations by name, in lines, as `allow_ops` of a policy takes them."""
    names = [name if count == 1 else f"{name}×{count}" for name, count in listing["uses"].items()]
    if not names:
        return []
    return ["operations by name", *textwrap.wrap(", ".join(names), 108, **_INDENTED), ""]


def _told(leaves: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    if leaves["parameters"]:
        size = leaves["parameter_bytes"]
        much = f"{counted(len(leaves['parameters']), 'tensor')}" + (
            "" if size is None else f", {in_bytes(size)}"
        )
        rows.append((f"the change of {much}", _few(leaves["parameters"])))
    if leaves["loss"]:
        rows.append(("the loss", "its mean over the samples"))
    if leaves["metrics"]:
        rows.append(("metrics", f"the means of {_few(leaves['metrics'])}"))
    if leaves["unknown"]:
        rows.append(("maybe", f"{_few(leaves['unknown'])}: the Plan does not say what they stand for"))
    return [*rows, ("counts", "the numbers of samples and batches")]


def _kept(leaves: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("the data", "samples and targets")]
    if leaves["private"]:
        rows.append((counted(len(leaves["private"]), "private tensor"), _few(leaves["private"])))
    if leaves["optimizer_tensors"]:
        rows.append(("the optimizer's state", counted(leaves["optimizer_tensors"], "tensor")))
    return rows


def _few(names: Sequence[str]) -> str:
    """Names, of very many the first ones."""
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(names[:_FEW]) + more


def _shapes(listing: "Listing") -> dict[int, str]:
    """What is written below each value in a picture: its shape, where that is known."""
    found = {
        item["value"]: shape_text(item["shape"]) for item in listing["inputs"] if item["shape"] is not None
    }
    for item in listing["operations"]:
        shapes = zip(item["results"], item["shapes"], strict=False)
        found |= {name: shape_text(shape) for name, shape in shapes if shape is not None}
    return {int(name.removeprefix("%")): text for name, text in found.items()}


def _estimate(listing: "Listing") -> str:
    estimate = listing["estimate"]
    if "refused" in estimate:
        return f"Memory and work are not known: {estimate['refused']}"
    size = estimate["batch"]
    batch = " at the size that the Plan is for" if size is None else f" on a batch of {size}"
    return (
        f"One run{batch} holds {in_bytes(estimate['peak_bytes'])} at most, "
        f"and does about {estimate['work']:,} additions and multiplications."
    )
