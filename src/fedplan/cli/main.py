"""The `fedplan` command: what its subcommands are, and how errors leave it.

Results go to stdout, everything else to stderr. Exit codes: 0 fine, 1 for an error, 2 for wrong usage. A
command's modules are imported when it runs, so that `--help` answers at once.
"""

from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from fedplan.cli import control, plan, privacy, state, tokens
from fedplan.cli.backup import backup, restore
from fedplan.cli.collection import collect_seldom
from fedplan.cli.demo.command import demo
from fedplan.cli.doctor import doctor
from fedplan.cli.environment import check_environment
from fedplan.cli.evaluate import evaluate
from fedplan.cli.events import events
from fedplan.cli.history import history
from fedplan.cli.host import host
from fedplan.cli.retrieve import retrieve
from fedplan.cli.serve import serve
from fedplan.cli.status import status
from fedplan.cli.terminal import echo
from fedplan.cli.verify import verify
from fedplan.cli.watch import watch
from fedplan.cli.why import why
from fedplan.cli.worker import worker
from fedplan.errors import FedplanError, SettingsError
from fedplan.version import __version__

_EXTRAS = {
    "matplotlib": "demo",
    "sklearn": "demo",
    "asyncpg": "postgres",
    "dp_accounting": "privacy",
    "safetensors": "safetensors",
}
"""Which extra of the package brings a library; all others that may be missing come with `grid`."""


_HELP = {"-h", "--help"}


class Commands(TyperGroup):
    """A group of commands whose expected errors are one line on stderr."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command that was asked for."""
        try:
            if not _HELP & set(ctx.args):
                check_environment(self)
            return super().invoke(ctx)
        except FedplanError as error:
            usage = isinstance(error, SettingsError)
            _fail(": ".join([*getattr(error, "__notes__", ()), str(error)]), 2 if usage else 1)
        except BrokenPipeError:
            raise  # typer knows what to do: whoever read our output has seen enough
        except OSError as error:
            _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        except ModuleNotFoundError as error:
            library = str(error.name).partition(".")[0]
            extra = _EXTRAS.get(library, "grid")
            _fail(f"this command needs {library}, which is not installed: pip install 'fedplan[{extra}]'")


def _fail(message: str, code: int = 1) -> NoReturn:
    echo(f"fedplan: {message}", err=True)
    raise typer.Exit(code)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": sorted(_HELP)},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fedplan {__version__}")
        raise typer.Exit


@app.callback()
def fedplan(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Federated learning in which training travels to the data, as a Plan: a list of operations, not code.

    Where to begin:

    ```
    See it work:         fedplan demo
    Run a grid:          fedplan serve
    Give it a model:     fedplan host
    Train on your data:  fedplan worker
    Watch, and fetch:    fedplan watch, fedplan status, fedplan history, fedplan evaluate, fedplan retrieve
    Find out why:        fedplan why, fedplan events
    Pause it, stop it …: fedplan model list, pause, resume, stop, extend, set, delete
    Go back:             fedplan checkpoint list, promote, rollback
    Let others in:       fedplan token create, list, revoke
    Choose noise:        fedplan privacy plan
    Look after a grid:   fedplan verify, fedplan backup, fedplan restore
    Look into files:     fedplan plan show, fedplan plan check, fedplan state show
    What is installed:   fedplan doctor
    ```
    """


app.command("demo")(demo)
app.command("doctor")(doctor)
app.command("serve")(serve)
app.command("host")(host)
app.command("worker")(worker)
app.command("status")(status)
app.command("history")(history)
app.command("events")(events)
app.command("watch")(watch)
app.command("why")(why)
app.command("evaluate")(evaluate)
app.command("retrieve")(retrieve)
app.command("verify")(verify)
app.command("backup")(backup)
app.command("restore")(restore)
app.add_typer(control.model_app, name="model")
app.add_typer(control.checkpoint_app, name="checkpoint")
app.add_typer(plan.app, name="plan")
app.add_typer(privacy.app, name="privacy")
app.add_typer(state.app, name="state")
app.add_typer(tokens.app, name="token")


def run() -> None:
    """What a shell starts."""
    collect_seldom()
    app(prog_name="fedplan")
