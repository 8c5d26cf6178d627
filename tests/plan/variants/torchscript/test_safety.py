"""An archive is run only if it computes, and does nothing else."""

import io
import pathlib
import warnings
import zipfile
from collections.abc import Callable

import pytest
import torch

from fedplan.errors import PlanFormatError, UnsupportedOpError
from fedplan.plan import trace
from fedplan.plan.variants.torchscript import run, values, write


def saved(function: Callable[..., object]) -> bytes:
    """A function as an archive that today's torch writes."""

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(function)
        buffer = io.BytesIO()
        torch.jit.save(scripted, buffer)
    return buffer.getvalue()


def maps_a_file(x: torch.Tensor) -> list[torch.Tensor]:
    written = torch.from_file("written_by_a_plan", True, 4)
    written.fill_(1.0)
    return [x + written.sum()]


def maps_it_on_a_condition(x: torch.Tensor) -> list[torch.Tensor]:
    if int(x.sum()) > 3:
        x = torch.from_file("written_by_a_plan", True, 4)
    return [x]


def warns(x: torch.Tensor) -> list[torch.Tensor]:
    print("hello")
    return [x]


@pytest.mark.parametrize(
    ("function", "operator"),
    [(maps_a_file, "aten::from_file"), (maps_it_on_a_condition, "aten::from_file"), (warns, "prim::Print")],
)
def test_an_operator_that_no_plan_may_use_is_refused_before_anything_runs(
    function: Callable[..., object], operator: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = saved(function)
    for call in (run, values):
        with pytest.raises(UnsupportedOpError, match=operator):
            call(data, [torch.ones(4)])
    assert list(tmp_path.iterdir()) == []


def test_code_that_would_run_while_loading_is_refused() -> None:
    made = io.BytesIO()
    data = write(trace(lambda x: x * 2, torch.zeros(3)))
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
        for entry in old.infolist():
            text = old.read(entry)
            if entry.filename.endswith(".py"):
                text += b"  def __setstate__(self, state: Tensor) -> NoneType:\n    return None\n"
            new.writestr(entry.filename, text)
    with pytest.raises(PlanFormatError, match="runs code when it is loaded"):
        run(made.getvalue(), [torch.ones(3)])
