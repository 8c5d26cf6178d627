"""The commands of docs/first-steps.md, run as they stand there, print what stands there."""

import contextlib
import dataclasses
import re
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import ENVIRONMENT
from tests.docs.pages import DOCS, Block, blocks
from tests.processes import Process

BLOCKS = blocks(DOCS / "first-steps.md")
PAGES_PORT = ":5000"
OPERATOR, OWNER = "operator", "owner"


@dataclasses.dataclass
class Typed:
    """A command of the page, what the page shows below it, and what it printed here."""

    command: str
    shown: str
    printed: str = ""


def commands(block: Block) -> list[Typed]:
    """Of a console block: what stands behind each `$`, and the lines up to the next one."""
    return [
        Typed(*(part.partition("\n")[::2])) for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]
    ]


def without_measurements(text: str) -> list[str]:
    """The lines of an output, without figures that differ from run to run and machine to machine."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "(time)", text)
    text = re.sub(r"±\d\S*", "(error)", text)
    text = re.sub(r"\d+%|\d*\.\d+(?=\s|,|\)|$)", "(figure)", text)
    text = re.sub(r"[▁▂▃▄▅▆▇█]+", "(plot)", text)
    lines = [re.sub(r"─+", "─", re.sub(r" +", " ", line)).strip() for line in text.splitlines()]
    return [line for line in lines if line]


class Terminal:
    """Runs commands one after the other, as a person types them: with variables that stay."""

    def __init__(self, port: str) -> None:
        self._environment = dict(ENVIRONMENT)
        self._port = port

    def finish(self, typed: Typed, process: Process) -> None:
        """Waits for a command that was started."""
        out, error = process.communicate(timeout=150)  # more than any `--timeout` of the page
        assert process.returncode == 0, f"{typed.command}: {error}"
        self.note(typed, (out or "") + (error or ""))

    def export(self, typed: Typed) -> bool:
        """Whether the command only sets a variable, which is done then."""
        word, _, setting = typed.command.partition(" ")
        if word == "export":
            name, _, value = setting.partition("=")
            self._environment[name] = value.replace(PAGES_PORT, self._port)
        return word == "export"

    def started(self, typed: Typed) -> Process:
        program, *arguments = shlex.split(typed.command.replace(PAGES_PORT, self._port))
        if program == "python":
            script = f"import runpy; runpy.run_path({arguments[0]!r}, run_name='__main__')"
            return Process("-c", script, env=self._environment)
        assert program == "fedplan", f"{typed.command}: only `fedplan`, `python` and `export` can be tried"
        arguments = [self._port[1:] if argument == "5000" else argument for argument in arguments]
        return Process("-m", "fedplan", *arguments, env=self._environment)

    def note(self, typed: Typed, printed: str) -> None:
        typed.printed = printed.replace(self._port, PAGES_PORT).replace(f"{Path.cwd()}/", "./")


def free_port() -> str:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return f":{listening.getsockname()[1]}"


@contextlib.contextmanager
def serving(terminal: Terminal, block: Block) -> Iterator[list[Typed]]:
    """The operator's block: its last command goes on until the others are done."""
    *before, serve = commands(block)
    assert all(terminal.export(typed) for typed in before)
    with terminal.started(serve) as process:
        try:
            printed = process.stdout.readline() + process.stderr.readline()
            terminal.note(serve, printed)
            yield [serve]
        finally:
            process.terminate()


def page_typed() -> list[Typed]:
    """All commands of the page, after they were run in the order of the page.

    The owner's commands are waited for. The others' go on while the owner types the next ones.
    """
    port = free_port()
    terminals = {title: Terminal(port) for title in {b.title for b in BLOCKS if b.language == "console"}}
    first, *others = [block for block in BLOCKS if block.language == "console"]
    assert first.title == OPERATOR
    working: list[tuple[Terminal, Typed, Process]] = []
    done: list[Typed] = []
    with serving(terminals[OPERATOR], first) as served:
        done += served
        for block in others:
            for typed in commands(block):
                done.append(typed)
                terminal = terminals[block.title]
                if terminal.export(typed):
                    continue
                process = terminal.started(typed)
                if block.title == OWNER:
                    terminal.finish(typed, process)
                else:
                    working.append((terminal, typed, process))
        for terminal, typed, process in working:
            terminal.finish(typed, process)
    return done


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> list[Typed]:
    with contextlib.chdir(tmp_path_factory.mktemp("first-steps")):
        for block in BLOCKS:
            if block.language != "console":
                Path(block.title).write_text(block.text)
        return page_typed()


def test_each_command_prints_what_the_page_shows(typed: list[Typed]) -> None:
    assert len(typed) > 10
    for each in typed:
        assert without_measurements(each.printed) == without_measurements(each.shown), each.command


def test_the_model_reads_most_digits(typed: list[Typed]) -> None:
    (measured,) = [each.printed for each in typed if "measure.py" in each.command]
    assert int(measured.split("%")[0]) > 80


def test_each_block_of_the_page_is_a_command_or_a_file() -> None:
    assert {block.language for block in BLOCKS if block.title} == {"console", "python", "json"}
    assert all(block.title for block in BLOCKS)
    assert len(BLOCKS) == (DOCS / "first-steps.md").read_text().count("```") // 2
