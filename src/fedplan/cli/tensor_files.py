"""Files of named tensors: safetensors, what `torch.save` writes, and what `numpy.savez` writes."""

import importlib
import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fedplan.cli.files import about_file
from fedplan.errors import ConfigError, DataError
from fedplan.text import did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

_DAMAGED = (
    pickle.UnpicklingError,
    struct.error,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    AssertionError,
    OverflowError,
)
"""What PyTorch raises for files that are none of its own, according to what their bytes happen to mean."""

FORMS = ("state", "safetensors", "pt", "npz")
_SUFFIXES = {".safetensors": "safetensors", ".pt": "pt", ".pth": "pt", ".npz": "npz"}


def form_of(path: Path, wanted: str | None) -> str:
    """The form of a file: what is wanted, else what its name ends in, else a State.

    Raises:
        BadParameter: there is no such form.
    """
    if wanted is None:
        return _SUFFIXES.get(path.suffix.lower(), "state")
    if wanted not in FORMS:
        raise typer.BadParameter(
            f"'{wanted}' is no form{did_you_mean(wanted, FORMS)} There are {', '.join(FORMS)}",
            param_hint="--format",
        )
    return wanted


def written(named: Mapping[str, "Tensor"], form: str) -> bytes:
    """The bytes of a file of these tensors, in their order.

    Raises:
        ConfigError: the form cannot hold one of them.
        ModuleNotFoundError: safetensors is not installed.
    """
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}
    if form == "safetensors":
        return bytes(_safetensors().save(whole))
    file = io.BytesIO()
    if form == "pt":
        import torch

        torch.save(whole, file)
    else:
        _write_npz(file, whole)
    return file.getvalue()


def _write_npz(file: io.BytesIO, named: Mapping[str, "Tensor"]) -> None:
    """What `numpy.savez` writes; it cannot be given a name such as ``file`` itself."""
    import numpy as np

    with zipfile.ZipFile(file, "w") as archive:
        for name, tensor in named.items():
            try:
                array = tensor.numpy()
            except TypeError:
                raise ConfigError(
                    f"the tensor '{name}' is a {tensor.dtype}, which an npz file cannot hold: take "
                    "--format safetensors, or pt"
                ) from None
            with archive.open(f"{name}.npy", "w", force_zip64=True) as part:
                np.lib.format.write_array(part, array, allow_pickle=False)


def read_named(path: Path, form: str) -> dict[str, Any]:
    """The tensors of a file, by name. Nothing in it is run as code.

    Raises:
        DataError: it holds something else.
        ModuleNotFoundError: safetensors is not installed.
    """
    with about_file(path):
        if form == "safetensors":
            return _read_safetensors(path)
        found = _read_torch(path) if form == "pt" else _read_npz(path)
        wrong = [key for key, value in found.items() if not hasattr(value, "shape")]
        if wrong:
            raise DataError(
                f"'{wrong[0]}' in it is a {type(found[wrong[0]]).__name__}, and no tensor: save the "
                "state_dict alone, with torch.save(module.state_dict(), FILE)"
            )
        return found


def _safetensors() -> Any:
    """The library, which not every installation has; so type checkers must not need it either."""
    return importlib.import_module("safetensors.torch")


def _read_safetensors(path: Path) -> dict[str, Any]:
    library = _safetensors()
    damaged = importlib.import_module("safetensors").SafetensorError
    try:
        return dict(library.load(path.read_bytes()))
    except damaged as error:
        raise DataError(f"this is no safetensors file: {error}") from None


def _read_torch(path: Path) -> dict[str, Any]:
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        told = str(error).splitlines() or [type(error).__name__]
        raise DataError(
            "this is no file of tensors alone, as torch.save(module.state_dict(), FILE) writes it: "
            f"{told[0]:.200}"
        ) from None
    if not isinstance(found, Mapping):
        raise DataError(
            f"it holds a {type(found).__name__}, and a state_dict is needed: "
            "torch.save(module.state_dict(), FILE)"
        )
    return dict(found)


def _read_npz(path: Path) -> dict[str, Any]:
    import numpy as np

    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return dict(archive)
    except (ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(f"this is no file that numpy.savez writes: {error}") from None
