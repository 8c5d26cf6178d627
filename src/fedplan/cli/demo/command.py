"""The command `fedplan demo`."""

import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer


def demo(
    workers: Annotated[int, typer.Option("--workers", min=1, max=100, help="How many workers train.")] = 8,
    cycles: Annotated[int, typer.Option("--cycles", min=1, help="How many cycles they train in.")] = 20,
    iid: Annotated[
        bool, typer.Option("--iid", help="Give all workers the same mix of digits, and not a few each.")
    ] = False,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Decides the first model, who gets what, and the order.")
    ] = 0,
    out: Annotated[
        Path, typer.Option("--out", metavar="PNG", dir_okay=False, writable=True, help="Picture to write.")
    ] = Path("fedplan-demo.png"),
) -> None:
    """Watch workers train one model together, each on data that it keeps.

    Starts a grid and eight workers, each a process of its own, all on this machine. The data are the 1,797
    handwritten digits that come with scikit-learn; each worker has a few of the ten digits only. It trains on
    four fifths of them, and measures each new model on the others. At the end there is what the workers have
    measured, as a table and a picture, next to the same model trained in one place. It takes about a minute.
    """
    from fedplan.cli.demo.processes import ONE_THREAD, Processes

    if not out.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder '{out.parent}'", param_hint="--out")
    began = time.monotonic()
    with (
        _stopped_by_sigterm(),
        tempfile.TemporaryDirectory(prefix="fedplan-demo-") as name,
        Processes(Path(name)) as processes,
    ):
        typer.echo(f"Starting a grid and {workers} workers, each a process of its own", err=True)
        grid = processes.start("grid", "serve", "--port", "0", "--data", str(Path(name, "data")))
        os.environ.update(ONE_THREAD)
        from fedplan.cli.demo.story import Wishes, tell  # the grid starts while the libraries load

        tell(grid, processes, Wishes(workers, cycles, iid, seed, out))
    typer.echo(f"All of this took {time.monotonic() - began:.0f} seconds.", err=True)


@contextlib.contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Makes SIGTERM an exception, so that what the block has opened is closed."""

    def stop(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
