"""`fedplan verify`: whether what a grid has stored of a model is what it was."""

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from fedplan.cli.environment import read_settings
from fedplan.cli.options import AsJson, Data
from fedplan.cli.terminal import echo, print_json, print_table

if TYPE_CHECKING:
    from fedplan.grid.offline.verifying import Finding
    from fedplan.grid.settings import Settings


def verify(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the hosted model.")],
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Version of the hosted model.")],
    checkpoint: Annotated[
        int | None,
        typer.Option("--checkpoint", metavar="N", min=1, help="Only this one, 1 being the model as hosted."),
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Compute a model's checkpoints once more from the reports that made them, and check all checksums.

    It reads the grid's own database and blobs, which `--data` or the variables of `fedplan serve` name, also
    while the grid runs, and changes nothing. Where the reports of a checkpoint are kept (FEDPLAN_KEEP_DIFFS,
    or `keep_diffs` in the server_config) it is averaged again, and must be the same, bit for bit. Else the
    checksums of what is stored are checked.

    The exit code is 1 when something is damaged, missing or different.

    Example:

    ```
    fedplan verify mnist 1.0.0 --data ./fedplan-data
    ```
    """
    settings = read_settings({"data_dir": data})
    findings = asyncio.run(_findings(settings, name, version, checkpoint))
    if as_json:
        print_json([dataclasses.asdict(finding) for finding in findings])
    else:
        rows = [
            [finding.what, "" if finding.reports is None else str(finding.reports), _told(finding)]
            for finding in findings
        ]
        print_table(("what", "reports", "found"), rows, numbers=("reports",))
    wrong = [finding.what for finding in findings if finding.outcome.is_wrong]
    if wrong:
        echo(f"{name} {version}: {', '.join(wrong)}: not as stored", err=True)
        raise typer.Exit(1)


async def _findings(settings: "Settings", name: str, version: str, checkpoint: int | None) -> "list[Finding]":
    from fedplan.grid.offline.verifying import verify
    from fedplan.grid.opening import looking_at

    async with looking_at(settings) as (store, blobs):
        return [finding async for finding in verify(store, blobs, name, version, checkpoint)]


def _told(finding: "Finding") -> str:
    told = {
        "equal": "recomputed: equal, and the checksums are good",
        "good": "the checksums are good",
        "damaged": f"damaged or missing: {', '.join(finding.damaged)}",
        "different": "recomputed: different",
        "deleted": "deleted, as the server_config says (keep_checkpoints)",
    }[finding.outcome.value]
    if finding.unchecked:
        told += f" ({finding.unchecked} blobs of an older grid have none)"
    return f"{told}; {finding.why}" if finding.why else told
