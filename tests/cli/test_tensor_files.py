"""Models as files of named tensors: hosted from them, and fetched into them."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from torch import nn

from fedplan.cli.tensor_files import form_of, read_named, written
from fedplan.client import SyftModel
from fedplan.errors import ConfigError, DataError
from tests.cli.conftest import Invoke, Project, write_configs

NAMED = {"weight": torch.arange(6.0).reshape(2, 3), "file": torch.tensor([1, 2], dtype=torch.int32)}
FORMS = ["safetensors", "pt", "npz"]


def needs(form: str) -> None:
    if form == "safetensors":
        pytest.importorskip("safetensors")


@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_is_read_again(tmp_path: Path, form: str) -> None:
    needs(form)
    path = tmp_path / f"model.{form}"
    path.write_bytes(written(NAMED, form))
    assert form_of(path, None) == form
    read = read_named(path, form)
    assert set(read) == set(NAMED)
    for name, tensor in NAMED.items():
        np.testing.assert_array_equal(np.asarray(read[name]), tensor.numpy())


def test_others_read_the_files_with_their_own_libraries(tmp_path: Path) -> None:
    (tmp_path / "model.npz").write_bytes(written(NAMED, "npz"))
    (tmp_path / "model.pt").write_bytes(written(NAMED, "pt"))
    with np.load(tmp_path / "model.npz") as archive:
        assert archive.files == list(NAMED)
    assert list(torch.load(tmp_path / "model.pt")) == list(NAMED)


def test_a_form_is_what_the_name_ends_in_unless_another_is_wanted() -> None:
    assert form_of(Path("a.PTH"), None) == "pt"
    assert form_of(Path("a.pb"), None) == "state"
    assert form_of(Path("a.pb"), "npz") == "npz"
    with pytest.raises(typer.BadParameter, match="did you mean 'safetensors'"):
        form_of(Path("a"), "safetensor")


def test_what_numpy_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'w' is a torch.bfloat16.*safetensors, or pt"):
        written({"w": torch.zeros(2, dtype=torch.bfloat16)}, "npz")


class Evil:
    def __reduce__(self) -> Any:
        return exit, ("run as code",)


@pytest.mark.parametrize(
    ("form", "content", "words"),
    [
        ("pt", b"nothing", "no file of tensors alone"),
        ("pt", b"", "no file of tensors alone"),
        ("pt", b"\x80\x02h\x05.", "no file of tensors alone"),  # a pickle that reads what it has not kept
        ("pt", b"\x80\x02.", "no file of tensors alone"),  # one that holds nothing
        ("pt", {"model": {"w": torch.zeros(1)}, "epoch": 3}, "'model' in it is a dict, and no tensor"),
        ("pt", [torch.zeros(1)], "it holds a list, and a state_dict is needed"),
        ("pt", {"w": Evil()}, "no file of tensors alone"),
        ("npz", b"PK", "no file that numpy.savez writes"),
        ("safetensors", b"nothing", "no safetensors file"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(
    tmp_path: Path, form: str, content: Any, words: str
) -> None:
    needs(form)
    path = tmp_path / "model"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(DataError, match=words):
        read_named(path, form)


@pytest.mark.parametrize("form", FORMS)
def test_a_model_is_hosted_from_a_file_and_fetched_into_one(
    fedplan: Invoke, grid_url: str, project: Project, tmp_path: Path, form: str
) -> None:
    needs(form)
    net = nn.Linear(3, 2)
    source, target = tmp_path / f"net.{form}", tmp_path / f"fetched.{form}"
    source.write_bytes(written(dict(reversed(net.state_dict().items())), form))
    hosted = fedplan(
        "host", "--url", grid_url, "--model", source, "--plan", f"training_plan={project['plan.pb']}",
        "--variant", "none", *write_configs(tmp_path, f"from {form}", max_diffs=1),
    )  # fmt: skip
    assert hosted.exit_code == 0, hosted.output
    where = ("--url", grid_url, "--model", f"from {form}", "--version", "1.0")
    fetched = fedplan("retrieve", *where, "--out", target)
    assert fetched.exit_code == 0, fetched.output
    assert "2 tensors" in fetched.stderr
    read = read_named(target, form)
    assert sorted(read) == ["bias", "weight"]
    np.testing.assert_array_equal(np.asarray(read["weight"]), net.weight.detach().numpy())
    assert fedplan("retrieve", *where, "--out", target, "--format", "state").exit_code == 0
    assert len(SyftModel.parse(target.read_bytes()).params) == 2


def test_a_misspelt_name_is_told(fedplan: Invoke, project: Project, tmp_path: Path) -> None:
    torch.save({"wieght": torch.zeros(2, 3), "bias": torch.zeros(2)}, tmp_path / "net.pt")
    result = fedplan(
        "host", "--url", "http://127.0.0.1:9", "--model", tmp_path / "net.pt",
        "--plan", f"training_plan={project['plan.pb']}", *write_configs(tmp_path, "misspelt"),
    )  # fmt: skip
    assert result.exit_code == 1
    assert "without 'weight', which the Plan trains; did you mean 'wieght'?" in result.stderr


def test_without_safetensors_it_says_what_to_install(
    fedplan: Invoke, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("safetensors", "safetensors.torch"):
        monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "net.safetensors").write_bytes(b"")
    result = fedplan(
        "host", "--url", "http://127.0.0.1:9", "--model", tmp_path / "net.safetensors",
        "--plan", f"training_plan={project['plan.pb']}", *write_configs(tmp_path, "without"),
    )  # fmt: skip
    assert result.exit_code == 1
    assert "this command needs safetensors, which is not installed: pip install 'fedplan[safetensors]'" in (
        result.stderr
    )
