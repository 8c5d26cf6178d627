"""What holds for every command: help, errors, exit codes, start-up."""

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from fedplan.cli.main import app
from fedplan.grid import Settings
from fedplan.version import __version__
from fedplan.wire.config import ClientConfig, ServerConfig
from tests.cli.conftest import Invoke, Project

COMMANDS = {
    "demo": ["--workers", "--cycles", "--iid", "--seed", "--out"],
    "doctor": ["URL", "--json", "--token"],
    "serve": ["--host", "--port", "--data", "FEDPLAN_OWNER_TOKEN", "Ctrl-C", "--log-format", "--log-level"],
    "host": [
        "--url",
        "--model",
        "--plan",
        "--averaging-plan",
        "--client-config",
        "--server-config",
        "--token",
    ],
    "worker": [
        "--url",
        "--model",
        "--version",
        "--data",
        "--batches",
        "--cycles",
        "--token",
        "--policy",
        "numpy.savez",
    ],
    "status": ["--url", "--name", "--json", "--token"],
    "evaluate": ["--url", "--model", "--version", "--wait", "--timeout", "--json"],
    "events": ["--url", "--follow", "--last", "--json", "--csv", "NAME"],
    "watch": ["--url", "--token", "Ctrl-C", "NAME"],
    "why": ["--url", "--worker", "--json", "NAME", "VERSION"],
    "history": ["--url", "--model", "--version", "--json", "--csv"],
    "retrieve": ["--url", "--model", "--version", "--checkpoint", "--out", "--format"],
    "backup": ["FOLDER", "--data"],
    "restore": ["FOLDER", "--data"],
    "verify": ["NAME", "VERSION", "--checkpoint", "--data", "--json"],
    "model": ["list", "pause", "resume", "stop", "extend", "set", "delete"],
    "model list": ["--url", "--json", "--token"],
    "model pause": ["NAME", "VERSION", "--url", "--token"],
    "model resume": ["NAME", "VERSION", "--url", "--token"],
    "model stop": ["NAME", "VERSION", "--url", "--token"],
    "model extend": ["NAME", "VERSION", "--cycles", "--seconds", "--url", "--token"],
    "model set": ["NAME", "VERSION", "--server", "--client", "KEY=VALUE", "--url", "--token"],
    "model delete": ["NAME", "VERSION", "--yes", "--force", "--url", "--token"],
    "checkpoint": ["list", "promote", "rollback"],
    "checkpoint list": ["NAME", "VERSION", "--json", "--url", "--token"],
    "checkpoint promote": ["NAME", "VERSION", "N", "--url", "--token"],
    "checkpoint rollback": ["NAME", "VERSION", "N", "--url", "--token"],
    "plan": ["show", "check", "run"],
    "plan show": ["PLAN.pb", "--batch", "--json", "--diff", "--svg"],
    "plan check": ["PLAN.pb"],
    "plan run": ["PLAN.pb", "--inputs", "--out"],
    "state": ["show"],
    "privacy": ["plan"],
    "privacy plan": ["--epsilon", "--delta", "--cohort", "--rounds", "--population", "--clip", "--json"],
    "token": ["create", "list", "revoke"],
    "token list": ["--data", "--json"],
    "token revoke": ["NAME", "--data"],
    "token create": ["NAME", "--scope", "--expires", "--data", "host", "read", "observe", "admin"],
    "state show": ["STATE.pb", "--json"],
}


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_says_what_it_does_and_takes(fedplan: Invoke, command: str) -> None:
    result = fedplan(*command.split(), "--help")
    assert result.exit_code == 0
    assert [word for word in COMMANDS[command] if word not in result.output] == []


def commands(group: Any, before: str = "") -> Iterator[str]:
    """The names of all commands, and of the groups in which they are."""
    for name, command in group.commands.items():
        yield before + name
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")


def test_the_help_lists_every_command(fedplan: Invoke) -> None:
    output = fedplan("--help").output
    assert [name for name in COMMANDS if " " not in name and f" {name} " not in output] == []
    assert set(COMMANDS) == set(commands(typer.main.get_command(app)))


def test_host_names_every_key_of_the_configs(fedplan: Invoke) -> None:
    output = fedplan("host", "--help").output
    assert [
        key for key in (*ServerConfig.model_fields, *ClientConfig.model_fields) if key not in output
    ] == []


def test_serve_names_settings_that_exist(fedplan: Invoke) -> None:
    named = set(re.findall(r"FEDPLAN_\w+", fedplan("serve", "--help").output))
    assert len(named) > 4
    assert named <= {f"FEDPLAN_{name.upper()}" for name in Settings.model_fields}


def test_the_version_is_shown(fedplan: Invoke) -> None:
    assert fedplan("--version").output == f"fedplan {__version__}\n"


def test_wrong_usage_exits_with_2(fedplan: Invoke, project: Project) -> None:
    for arguments in (["fly"], ["status"], ["plan", "show", project["nothing.pb"]], ["serve", "--port", "x"]):
        result = fedplan(*arguments)
        assert result.exit_code == 2, arguments
        assert result.stdout == ""


def test_an_error_is_one_line_on_stderr_and_exits_with_1(fedplan: Invoke, project: Project) -> None:
    result = fedplan("plan", "show", project["model.pb"])
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"fedplan: {project['model.pb']}: this is not a serialized Plan: ")


def test_an_error_of_the_file_system_names_the_file(fedplan: Invoke, project: Project) -> None:
    out = project["no-such-folder"] / "out.pb"
    result = fedplan("plan", "run", project["plan.pb"], "--inputs", project["arguments.pb"], "--out", out)
    assert result.exit_code in (1, 2)
    assert "arguments.pb" in result.stderr


def test_a_missing_library_says_what_to_install() -> None:
    without_fastapi = "import sys; sys.modules['fastapi'] = None; sys.argv = ['fedplan', 'serve']; "
    result = run_python(without_fastapi + "from fedplan.cli.main import app; app()")
    assert result.returncode == 1
    assert result.stderr == (
        "fedplan: this command needs fastapi, which is not installed: pip install 'fedplan[grid]'\n"
    )


def test_python_m_fedplan_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fedplan", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"fedplan {__version__}\n"


@pytest.mark.parametrize(
    ("shell", "typed", "found"),
    [
        ("bash", "fedplan wo", "worker"),
        ("zsh", "fedplan plan sh", "show"),
        ("fish", "fedplan worker --pol", "--policy"),
    ],
)
def test_a_shell_completes_commands_and_options(shell: str, typed: str, found: str) -> None:
    asked = {
        "_FEDPLAN_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split()) - 1),
        "_TYPER_COMPLETE_ARGS": typed,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    result = CliRunner().invoke(app, [], env=asked, prog_name="fedplan")
    assert found in result.stdout


def test_the_scripts_for_shells_can_be_had() -> None:
    shown = CliRunner().invoke(app, ["--show-completion", "bash"], prog_name="fedplan")
    assert "_FEDPLAN_COMPLETE=complete_bash" in shown.stdout


def test_help_loads_nothing_heavy() -> None:
    code = """if True:
        import sys
        from typer.testing import CliRunner
        from fedplan.cli.main import app
        for command in (["--help"], ["demo", "--help"], ["worker", "--help"], ["plan", "show", "--help"]):
            assert CliRunner().invoke(app, command).exit_code == 0
        print({"torch", "numpy", "httpx", "fastapi", "sklearn"} & sys.modules.keys())
    """
    assert run_python(code).stdout == "set()\n"
