"""`fedplan doctor`: what is installed here, what is missing, and whether a grid can be reached."""

import dataclasses
import importlib.metadata
import platform
import re
import sys
import time
from collections.abc import Iterator
from typing import Annotated, Literal

import typer

from fedplan.cli.options import AllowPlainText, AsJson, OwnerToken, Verbose
from fedplan.cli.owner import owner_client
from fedplan.cli.terminal import print_json, print_table
from fedplan.errors import FedplanError, GridResponseError
from fedplan.text import counted
from fedplan.version import __version__

EXTRAS = {
    "grid": "running a grid",
    "postgres": "a grid on PostgreSQL",
    "demo": "fedplan demo, and the examples",
    "simulation": "pictures, tables and bars in notebooks",
    "privacy": "fedplan privacy plan --population",
    "safetensors": "models as safetensors files",
    "tensorboard": "a model's history in TensorBoard",
    "mlflow": "a model's history in MLflow",
}
"""What each extra of the package is for."""

_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(?:\[(?P<extras>[^]]*)\])?\s*(?:>=(?P<least>[\d.]+))?")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([\w-]+)['"]""")


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: the thing.
        state: ``missing`` is for what is needed only for some things, ``wrong`` for what must be mended.
        told: what was found, and what to do.
    """

    what: str
    state: Literal["fine", "missing", "wrong"]
    told: str


def doctor(
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="[URL]", envvar="FEDPLAN_URL", help="A grid, to see whether it can be reached."
        ),
    ] = None,
    token: OwnerToken = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
    allow_plain_text: AllowPlainText = False,
) -> None:
    """Say what is installed, which extras are missing, and whether a grid can be reached.

    A missing extra is no fault: its line says what it is for, and how to get it. The exit code is 1 when
    something must be mended, or the grid cannot be reached.

    Examples:

    ```
    fedplan doctor
    fedplan doctor https://grid.example
    ```
    """
    found = [*_python(), *_required(), *_torch(), *map(look_at_extra, EXTRAS)]
    if url is not None:
        found.append(_reach(url, token, verbose=verbose, allow_plain_text=allow_plain_text))
    if as_json:
        print_json([dataclasses.asdict(finding) for finding in found])
    else:
        print_table(("", "", ""), [(one.what, one.state, one.told) for one in found])
    if any(finding.state == "wrong" for finding in found):
        raise typer.Exit(1)


def _python() -> Iterator[Finding]:
    where = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.executable}"
    yield Finding("fedplan", "fine", __version__)
    yield Finding("Python", "fine", where)


def _required() -> Iterator[Finding]:
    """What every installation must have."""
    faults = list(_faults(None))
    told = "; ".join(faults) + ": pip install --upgrade fedplan" if faults else "all that is always needed"
    yield Finding("requirements", "wrong" if faults else "fine", told)


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except ImportError as error:
        yield Finding("PyTorch", "wrong", f"cannot be imported: {error}")
        return
    devices = ["the CPU"]
    if torch.cuda.is_available():
        devices += [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    yield Finding(
        "PyTorch",
        "fine",
        f"{torch.__version__}, {counted(torch.get_num_threads(), 'thread')}; {', '.join(devices)}",
    )


def look_at_extra(extra: str) -> Finding:
    """Whether all is there that an extra of the package needs."""
    faults = list(_faults(extra))
    what = f"extra {extra}"
    if not faults:
        return Finding(what, "fine", f"for {EXTRAS[extra]}")
    return Finding(
        what, "missing", f"for {EXTRAS[extra]}: {'; '.join(faults)}: pip install 'fedplan[{extra}]'"
    )


def _faults(extra: str | None) -> Iterator[str]:
    """What is missing of the requirements of an extra, or of those without one."""
    try:
        requirements = importlib.metadata.requires("fedplan") or []
    except importlib.metadata.PackageNotFoundError:
        yield "fedplan itself is not installed, so nobody knows what it needs"
        return
    for line in requirements:
        needed, _, marker = line.partition(";")
        named = _EXTRA.search(marker)
        if (None if named is None else named[1]) != extra or not _is_for_this_python(marker):
            continue
        found = _REQUIREMENT.match(needed.strip())
        if found is None:
            continue
        if found["name"] == "fedplan":
            for other in (found["extras"] or "").split(","):
                yield from _faults(other.strip())
            continue
        fault = _fault(found["name"], found["least"])
        if fault is not None:
            yield fault


def _is_for_this_python(marker: str) -> bool:
    """Whether a requirement that is for older Pythons alone is for this one."""
    bound = re.search(r"""python_version\s*<\s*['"]([\d.]+)['"]""", marker)
    return bound is None or sys.version_info[:2] < _numbers(bound[1])


def _fault(name: str, least: str | None) -> str | None:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f"{name} is not installed"
    if least is not None and _numbers(version) < _numbers(least):
        return f"{name} is {version}, and must be {least} or newer"
    return None


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def _reach(url: str, token: str | None, *, verbose: bool, allow_plain_text: bool) -> Finding:
    begun = time.monotonic()
    try:
        with owner_client(url, token, verbose=verbose, allow_plain_text=allow_plain_text) as grid:
            hosted = len(grid.status().models)
    except GridResponseError as error:
        if error.status in (401, 403):
            return Finding(
                "grid", "wrong", f"it answers, and does not let this token see its status: {error}"
            )
        return Finding("grid", "wrong", str(error))
    except FedplanError as error:
        return Finding("grid", "wrong", str(error))
    took = 1000 * (time.monotonic() - begun)
    return Finding("grid", "fine", f"answers within {took:.0f} ms, and hosts {counted(hosted, 'model')}")
