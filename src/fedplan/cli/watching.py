"""What `fedplan watch` asks a grid for, and the two ways in which it shows that."""

import asyncio
import collections
import time
from collections.abc import Mapping, Sequence
from typing import Protocol, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fedplan.cli.events import line_of
from fedplan.cli.status import closing_of, phase_of
from fedplan.cli.terminal import echo
from fedplan.client import ModelCentricFLClient
from fedplan.client.owner.waiting import newest, outlook
from fedplan.client.transport.answers import shown
from fedplan.client.transport.exchange import passes
from fedplan.errors import GridConnectionError, GridResponseError
from fedplan.text import counted, escaped_lines
from fedplan.wire.messages import EventRow, ModelStatus

_KEPT_EVENTS = 200
_FIRST_EVENTS = 20
_LOOK_SECONDS = 5.0
"""After how long the status is asked for when nothing happens: what is only a matter of time is no event."""

_LEAST_SECONDS = 0.5
"""Between two questions for the status, however much happens."""

_BAR = 12
_ROOM = 8
"""Lines of a screen that are neither models nor events."""


class View(Protocol):
    """Shows what a grid told."""

    def models(self, models: Sequence[ModelStatus]) -> None:
        """Takes the models as they are now."""

    def event(self, row: EventRow) -> None:
        """Takes what happened."""

    def away(self, why: str | None) -> None:
        """Takes why the grid does not answer; None when it does again."""


class Watching:
    """Follows one grid."""

    def __init__(self, grid: ModelCentricFLClient, name: str | None, version: str | None, view: View) -> None:
        """Follows all models, those of a name, or one version."""
        self._grid = grid
        self._name = name
        self._version = version
        self._view = view
        self._happened = asyncio.Event()

    async def run(self) -> None:
        """Follows it without end.

        Raises:
            GridResponseError: there is no such model, or the grid refused.
            GridConnectionError: the grid could not be reached, or was away for more than five minutes.
        """
        async with self._grid:
            first = await self._grid.events_async(self._name, self._version, last=_FIRST_EVENTS)
            for row in first:
                self._view.event(row)
            await self._look()
            await asyncio.gather(self._follow(first.next), self._keep_looking())

    async def _follow(self, after: str) -> None:
        async for row in self._grid.each_event_async(self._name, self._version, after=after, follow=True):
            self._view.event(row)
            self._happened.set()

    async def _keep_looking(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._happened.wait()
            except TimeoutError:
                pass  # it is time to look all the same
            self._happened.clear()
            try:
                await self._look()
            except (GridConnectionError, GridResponseError) as error:
                if not passes(error):
                    raise
                self._view.away(str(error))  # who follows the events knows when to give up
            else:
                self._view.away(None)
            await asyncio.sleep(_LEAST_SECONDS)

    async def _look(self) -> None:
        models = (await self._grid.status_async(self._name)).models
        self._view.models([m for m in models if self._version in (None, m.version)])


class Lines:
    """A line for each event, and for each change of a model: for files and pipes."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], str] = {}
        self._away = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def models(self, models: Sequence[ModelStatus]) -> None:
        """Prints what has changed."""
        now = {(model.name, model.version): _in_a_line(model) for model in models}
        for key, text in now.items():
            if self._told.get(key) != text:
                echo(f"{key[0]} {key[1]}: {text}")
        self._told = now

    def event(self, row: EventRow) -> None:
        """Prints it."""
        echo(line_of(row))

    def away(self, why: str | None) -> None:
        """Says once that the grid is away, and once that it is back."""
        if why is not None and not self._away:
            echo(f"the grid does not answer, and is asked again: {why}", err=True)
        elif why is None and self._away:
            echo("the grid answers again", err=True)
        self._away = why is not None


def _in_a_line(model: ModelStatus) -> str:
    if model.phase == "finished" and model.cycle.closed_at is not None:
        return f"finished, its newest checkpoint is {newest(model)}"
    return f"{outlook(model)}; its newest checkpoint is {newest(model)}"


class Screen:
    """A page in a terminal: models above, what they wait for, and the newest events."""

    def __init__(self, url: str, console: Console) -> None:
        self._url = url
        self._console = console
        self._models: Sequence[ModelStatus] = ()
        self._events: collections.deque[str] = collections.deque(maxlen=_KEPT_EVENTS)
        self._away: str | None = None
        self._looked: float | None = None
        self._live = Live(get_renderable=self.page, console=console, screen=True, refresh_per_second=4)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def models(self, models: Sequence[ModelStatus]) -> None:
        """Shows them from the next moment on."""
        self._models, self._looked = models, time.monotonic()

    def event(self, row: EventRow) -> None:
        """Shows it below the others."""
        self._events.append(escaped_lines(line_of(row)))

    def away(self, why: str | None) -> None:
        """Shows it in the first line."""
        self._away = why

    def page(self) -> RenderableType:
        """All that is shown."""
        room = max(self._console.height - _ROOM - 2 * len(self._models), 3)
        newest_events = list(self._events)[-room:]
        return Group(
            self._heading(),
            _table(self._models),
            *(
                Text(f"{shown(m.name)} {shown(m.version)}: {_in_a_line(m)}", style="dim")
                for m in self._models
            ),
            Text(),
            *(Text(line, no_wrap=True, overflow="ellipsis") for line in newest_events),
        )

    def _heading(self) -> Text:
        if self._away is not None:
            return Text(f"{self._url} does not answer, and is asked again: {self._away}", style="bold red")
        if self._looked is None:
            return Text(f"{self._url}: asking …", style="bold")
        return Text(f"{self._url}: {counted(len(self._models), 'model')}. Ctrl-C ends this.", style="bold")


def _table(models: Sequence[ModelStatus]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    aligned: Mapping[str, str] = {"workers": "right", "checkpoint": "right"}
    for title in ("model", "version", "phase", "cycle", "reports", "", "workers", "checkpoint", "closes"):
        table.add_column(title, justify="right" if title in aligned else "left", overflow="fold")
    for model in models:
        cycle = model.cycle
        most = cycle.limit or cycle.needed
        table.add_row(
            Text(escaped_lines(model.name)),
            Text(escaped_lines(model.version)),
            phase_of(model),
            str(cycle.number) + (f" of {model.num_cycles}" if model.num_cycles else ""),
            f"{cycle.reported} of {most}",
            ProgressBar(total=max(most, 1), completed=min(cycle.reported, most), width=_BAR),
            str(cycle.accepted),
            str(newest(model)),
            closing_of(cycle),
        )
    return table
