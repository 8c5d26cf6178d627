"""`fedplan model` and `fedplan checkpoint`: what a model's owner may do with it while it is hosted."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedplan.cli.options import AllowPlainText, AsJson, OwnerToken, Url, Verbose
from fedplan.cli.owner import owner_client
from fedplan.cli.status import status
from fedplan.cli.terminal import echo, local_time, print_json, print_table

if TYPE_CHECKING:
    from fedplan.wire.messages import CheckpointRow, PromoteReply

model_app = typer.Typer(
    no_args_is_help=True,
    help="Hosted models: list, pause, resume, stop, extend, change and delete them.",
)
checkpoint_app = typer.Typer(
    no_args_is_help=True, help="The checkpoints of a hosted model: list them, and go back to an older one."
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the hosted model.")]
Version = Annotated[str, typer.Argument(metavar="VERSION", help="Its version.")]
Number = Annotated[int, typer.Argument(metavar="N", min=1, help="Number of the checkpoint.")]


@model_app.command("list")
def list_models(
    url: Url,
    as_json: AsJson = False,
    token: OwnerToken = None,
    verbose: Verbose = False,
    allow_plain_text: AllowPlainText = False,
) -> None:
    """Show the hosted models, as `fedplan status` does.

    Example:

    ```
    fedplan model list --url http://127.0.0.1:5000
    ```
    """
    status(url, as_json=as_json, token=token, verbose=verbose, allow_plain_text=allow_plain_text)


@model_app.command()
def pause(
    url: Url,
    name: Name,
    version: Version,
    token: OwnerToken = None,
    verbose: Verbose = False,
    allow_plain_text: AllowPlainText = False,
) -> None:
    """Let no new worker join. Those that are in the open cycle may report; no time closes it.

    Example:

    ```
    fedplan model pause mnist 1.0.0 --url http://127.0.0.1:5000
    ```
    """
    with owner_client(url, token, verbose=verbose, allow_plain_text=allow_plain_text) as grid:
        grid.pause(name, version)
    echo(f"{name} {version} is paused. `fedplan model resume` lets workers join again.", err=True)


@model_app.command()
def resume(
    url: Url,
    name: Name,
    version: Version,
    token: OwnerToken = None,
    verbose: Verbose = False,
    allow_plain_text: AllowPlainText = False,
) -> None:
    """Take a pause back. The open cycle has as much time left as when the pause began.

    Example:

    ```
    fedplan model resume mnist 1.0.0 --url http://127.0.0.1:5000
    ```
    """
    with owner_client(url, token, verbose=verbose, allow_plain_text=allow_plain_text) as grid:
        grid.resume(name, version)
    echo(f"{name} {version} takes workers.", err=True)


@model_app.command()
def stop(
    url: Url,
    name: Name,
    version: Version,
    token: OwnerToken = None,
    verbose: Verbose = False,
    allow_plain_text: AllowPlainText = False,
) -> None:
    """End the training now. The open cycle closes with its reports, if they are enough, or is dropped.

    An evaluation follows, if an evaluation Plan is hosted. `fedplan model extend` lets the training go on.

    Example:

    ```
    fedplan model stop mnist 1.0.0 --url http://127.0.0.1:5000
    ```
    """
    with owner_client(url, token, verbose=verbose, allow_plain_text=allow_plain_text) as grid:
        done = grid.stop(name, version)
    dropped = "" if done.dropped is None else f", which is dropped: {done.dropped}"
    echo(f"The training of {name} {version} ends with cycle {done.cycle}{dropped}.", err=True)


@model_app.command()
def extend(
    url: Url,
    name: Name,
    version: Version,
    cycles: Annotated[
        int | None, typer.Option("--cycles", metavar="N", min=1, help="So many cycles of training more.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", metavar="S", help="So much more time for the open cycle.")
    ] = None,
    token: OwnerToken = None,
    verbose: Verbose = False,
    allow_plain_text: AllowPlainText = False,
) -> None:
    """Give a model more cycles, also after its training has ended, or its open cycle more time.

    Example:

    ```
    fedplan model extend mnist 1.0.0 --cycles 5 --url http://127.0.0.1:5000
    ```
    """
    from fedplan.text import counted

    if cycles is None and seconds is None:
        raise typer.BadParameter("say how much: --cycles, --seconds, or both", param_hint="--cycles")
    with owner_client(url, token, verbose=verbose, allow_plain_text=allow_plain_text) as grid:
        done = grid.extend(name, version, cycles=cycles, seconds=seconds)
    told = [] if done.num_cycles is None else [f"has {counted(done.num_cycles, 'cycle')}"]
    if done.closes_at is not None:
        told.append(f"the open one closes by {local_time(done.closes_at)}")
    echo(f"{name} {version}: {', and '.join(told) or 'its open cycle has more time'}.", err=True)


@model_app.command("set")
def set_configs(
    url: Url,
    name: Name,
    version: Version,
    server: Annotated[
        list[str] | None,
        typer.Option(
            "--server",
            metavar="KEY=VALUE",
            help="A key of the server_config. The value is JSON, or a text; null takes the key away. May be "
            "given more than once.",
        ),
    ] = None,
    client: Annotated[
        list[str] | None,
        typer.Option("--client", metavar="KEY=VALUE", help="A key of the client_config, in the same way."),
    ] = None,
    token: OwnerToken = None,
    verbose: Verbose = False,
    allow_plain_text: AllowPlainText = False,
) -> None:
    """Change keys of a model's configurations, from the next cycle on. The grid checks them as at hosting.

    Example:

    ```
    fedplan model set mnist 1.0.0 --server min_diffs=8 --client lr=0.05 \\
        --url http://127.0.0.1:5000
    ```
    """
    with owner_client(url, token, verbose=verbose, allow_plain_text=allow_plain_text) as grid:
        cycle = grid.set_configs(
            name,
            version,
            server_config=_pairs(server, "--server"),
            client_config=_pairs(client, "--client"),
        )
    echo(f"From cycle {cycle} on, {name} {version} runs with that.", err=True)


def _pairs(given: list[str] | None, option: str) -> dict[str, Any]:
    """What was given as KEY=VALUE."""
    found: dict[str, Any] = {}
    for pair in given or ():
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise typer.BadParameter(
                f"KEY=VALUE is needed, such as min_diffs=8, not '{pair}'", param_hint=option
            )
        if key in found:
            raise typer.BadParameter(f"'{key}' is given twice", param_hint=option)
        found[key] = _value(value)
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


@model_app.command()
def delete(
    url: Url,
    name: Name,
    version: Version,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether that is meant.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also while a cycle is under way, whose reports are lost.")
    ] = False,
    token: OwnerToken = None,
    verbose: Verbose = False,
    allow_plain_text: AllowPlainText = False,
) -> None:
    """Delete a model with its checkpoints, Plans, cycles and reports. It cannot be had back.

    Example:

    ```
    fedplan model delete mnist 1.0.0 --yes --url http://127.0.0.1:5000
    ```
    """
    if not yes:
        typer.confirm(f"Delete {name} {version} with all its checkpoints?", abort=True, err=True)
    with owner_client(url, token, verbose=verbose, allow_plain_text=allow_plain_text) as grid:
        grid.delete(name, version, force=force)
    echo(f"{name} {version} is deleted.", err=True)


@checkpoint_app.command("list")
def list_checkpoints(
    url: Url,
    name: Name,
    version: Version,
    as_json: AsJson = False,
    token: OwnerToken = None,
    verbose: Verbose = False,
    allow_plain_text: AllowPlainText = False,
) -> None:
    """Show a model's checkpoints: when each was made, and by which cycle, and which are `latest` and `best`.

    Example:

    ```
    fedplan checkpoint list mnist 1.0.0 --url http://127.0.0.1:5000
    ```
    """
    with owner_client(url, token, verbose=verbose, allow_plain_text=allow_plain_text) as grid:
        found = grid.checkpoints(name, version)
    if as_json:
        print_json([row.model_dump(mode="json", exclude_none=True) for row in found])
    else:
        columns = ("checkpoint", "made", "by", "known as")
        print_table(columns, [_row(row) for row in found], numbers=("checkpoint",))


def _row(row: "CheckpointRow") -> list[str]:
    made_by = "hosting" if row.number == 1 else "–"
    if row.source is not None:
        made_by = f"copy of {row.source}"
    elif row.cycle is not None:
        made_by = f"cycle {row.cycle}"
    names = [*row.aliases, *(["dropped"] if row.dropped else []), *(["deleted"] if row.deleted else [])]
    return [str(row.number), local_time(row.created_at), made_by, ", ".join(names)]


@checkpoint_app.command()
def promote(
    url: Url,
    name: Name,
    version: Version,
    number: Number,
    token: OwnerToken = None,
    verbose: Verbose = False,
    allow_plain_text: AllowPlainText = False,
) -> None:
    """Make a copy of a checkpoint the newest one. The training goes on from it; the open cycle is dropped.

    Example:

    ```
    fedplan checkpoint promote mnist 1.0.0 3 --url http://127.0.0.1:5000
    ```
    """
    with owner_client(url, token, verbose=verbose, allow_plain_text=allow_plain_text) as grid:
        _tell(number, grid.promote(name, version, number))


@checkpoint_app.command()
def rollback(
    url: Url,
    name: Name,
    version: Version,
    number: Number,
    token: OwnerToken = None,
    verbose: Verbose = False,
    allow_plain_text: AllowPlainText = False,
) -> None:
    """Go back to a checkpoint: as `promote`, and those after it are not to be had any more.

    Example:

    ```
    fedplan checkpoint rollback mnist 1.0.0 3 --url http://127.0.0.1:5000
    ```
    """
    with owner_client(url, token, verbose=verbose, allow_plain_text=allow_plain_text) as grid:
        _tell(number, grid.roll_back(name, version, number))


def _tell(number: int, done: "PromoteReply") -> None:
    what = f"Checkpoint {done.checkpoint}"
    copy = "" if done.checkpoint == number else f", a copy of {number},"
    starts = "" if done.cycle is None else f"; cycle {done.cycle} starts from it"
    echo(f"{what}{copy} is the newest{starts}.", err=True)
