"""`fedplan backup` beside a grid that runs, and `fedplan restore` for another."""

import shutil
from pathlib import Path

import httpx

from tests.cli.conftest import Invoke, fedplan_process
from tests.cli.test_verify import train


def test_a_grid_that_runs_is_copied_and_its_copy_runs_too(fedplan: Invoke, tmp_path: Path) -> None:
    data, folder, new = tmp_path / "grid", tmp_path / "backup", tmp_path / "new"
    with fedplan_process("serve", "--port", 0, "--data", data) as process:
        url = process.stdout.readline().strip()
        with httpx.Client(base_url=f"{url}/model-centric", timeout=30) as http:
            train(http, "m")
            made = fedplan("backup", folder, "--data", data)
            assert (made.exit_code, made.stdout) == (0, ""), made.stderr
            assert "blobs" in made.stderr
            expected = http.get("/retrieve-model", params={"name": "m"}).content
    lacking = fedplan("restore", folder, "--data", new)
    assert lacking.exit_code == 2
    assert "copy grid.key of the grid to" in lacking.stderr
    new.mkdir(mode=0o700)
    shutil.copy2(data / "grid.key", new)
    restored = fedplan("restore", folder, "--data", new)
    assert restored.exit_code == 0, restored.stderr
    assert fedplan("verify", "m", "1.0", "--data", new).exit_code == 0
    with fedplan_process("serve", "--port", 0, "--data", new) as process:
        url = process.stdout.readline().strip()
        with httpx.Client(base_url=f"{url}/model-centric", timeout=30) as http:
            assert http.get("/retrieve-model", params={"name": "m"}).content == expected
            train(http, "another")


def test_a_grid_that_is_not_there_a_full_folder_and_no_backup_are_told(
    fedplan: Invoke, tmp_path: Path
) -> None:
    nothing = fedplan("backup", tmp_path / "b", "--data", tmp_path / "none")
    assert nothing.exit_code == 1
    assert "there is no grid in" in nothing.stderr
    assert list(tmp_path.iterdir()) == []
    no_backup = fedplan("restore", tmp_path, "--data", tmp_path / "new")
    assert no_backup.exit_code == 1
    assert "holds no backup" in no_backup.stderr


def test_what_is_damaged_makes_it_fail_by_name(fedplan: Invoke, tmp_path: Path) -> None:
    data = tmp_path / "grid"
    with fedplan_process("serve", "--port", 0, "--data", data) as process:
        url = process.stdout.readline().strip()
        with httpx.Client(base_url=f"{url}/model-centric", timeout=30) as http:
            train(http, "m")
    (plan,) = (data / "blobs" / "plans").iterdir()
    plan.write_bytes(b"something else")
    made = fedplan("backup", tmp_path / "backup", "--data", data)
    assert made.exit_code == 1
    assert f"not in the backup: plans/{plan.name}" in made.stderr
