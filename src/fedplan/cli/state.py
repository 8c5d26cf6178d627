"""`fedplan state`: looking into States, the files of models, diffs and Plan inputs."""

import math
from typing import TYPE_CHECKING, Any

import typer

from fedplan.cli.files import read_state
from fedplan.cli.options import AsJson, StateFile
from fedplan.cli.terminal import print_json, print_table, shape_text
from fedplan.text import in_bytes

if TYPE_CHECKING:
    from fedplan.wire import WireTensor

app = typer.Typer(no_args_is_help=True, help="Look into States: models, diffs, inputs of Plans.")


@app.callback()
def _group() -> None:
    """Keeps `show` a subcommand, although it is the only one."""


@app.command("show")
def show(file: StateFile, as_json: AsJson = False) -> None:
    """Show the tensors of a State: models, diffs and the inputs of Plans are States.

    Quantized tensors are shown by the values that they stand for.
    """
    state = read_state(file)
    rows = [
        {"index": index, **_summary(tensor), "tags": tags, "trained": trained}
        for index, (tensor, tags, trained) in enumerate(
            zip(state.tensors, _tags(state.message), state.trained, strict=True)
        )
    ]
    if as_json:
        print_json({"tensors": rows})
        return
    columns = ("index", "shape", "dtype", "min", "mean", "max", "tags")
    print_table(columns, [_cells(row) for row in rows], numbers=("index", "min", "mean", "max"))
    values = sum(tensor.array.size for tensor in state.tensors)
    size = sum(tensor.nbytes for tensor in state.tensors)
    typer.echo(f"{len(rows)} tensors, {values:,} values, {in_bytes(size)}")


def _summary(tensor: "WireTensor") -> dict[str, Any]:
    import numpy as np

    values = _values(tensor)
    with np.errstate(all="ignore"):  # infinite values make a NaN mean, which is what there is to say
        numbers = {"min": values.min(), "mean": values.mean(), "max": values.max()} if values.size else {}
    finite = {name: float(value) if math.isfinite(value) else None for name, value in numbers.items()}
    return {
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "min": None,
        "mean": None,
        "max": None,
    } | finite


def _values(tensor: "WireTensor") -> Any:
    """The values that a tensor stands for, as float64."""
    if tensor.dtype == "bfloat16":
        return (tensor.array.astype("<u4") << 16).view("<f4").astype("f8")
    values = tensor.array.astype("f8")
    return (
        tensor.scale * (values - tensor.zero_point) if tensor.dtype.startswith(("qint", "quint")) else values
    )


def _tags(message: Any) -> list[list[str]]:
    """The tags of each tensor; a State may have fewer placeholders than tensors."""
    tags = [list(placeholder.tags) for placeholder in message.placeholders]
    return [*tags, *([] for _ in message.tensors)][: len(message.tensors)]


def _cells(row: dict[str, Any]) -> list[str]:
    numbers = ["–" if row[key] is None else f"{row[key]:.6g}" for key in ("min", "mean", "max")]
    tags = [*row["tags"], *(["trained"] if row["trained"] else [])]
    return [str(row["index"]), shape_text(row["shape"]), row["dtype"], *numbers, " ".join(tags)]
