"""examples/mnist runs, on a part of the data."""

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shared import SHARED

ROOT = Path(__file__).parents[2]
MNIST = SHARED / "data" / "mnist"

needs_mnist = pytest.mark.skipif(not MNIST.is_dir(), reason=f"no MNIST files in {MNIST}")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The first images of MNIST, in the form of the four files."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    for part, samples in (("train", 1200), ("t10k", 300)):
        for kind, header, size in (("images-idx3", 16, 784), ("labels-idx1", 8, 1)):
            name = f"{part}-{kind}-ubyte.gz"
            content = gzip.decompress((MNIST / name).read_bytes())
            rest = content[8:header] + content[header : header + samples * size]
            (folder / name).write_bytes(gzip.compress(content[:4] + samples.to_bytes(4, "big") + rest))
    return folder


@needs_mnist
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_workers_train_a_model_together(data: Path, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FEDPLAN_")}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    result = subprocess.run(
        [ROOT / "examples" / "mnist" / "run", data, "2", "2"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=110,
    )
    assert result.returncode == 0, result.stderr
    assert "worker 0: 600 images" in result.stdout
    assert "worker 1: 600 images" in result.stdout
    last = next(
        line for line in result.stdout.splitlines() if line.startswith("cycle 2 of 2: test accuracy ")
    )
    assert float(last.split()[-1].rstrip("%")) > 60
    assert list(tmp_path.glob("tmp.*")) == []


@needs_mnist
def test_a_file_that_is_no_idx_file_is_named(data: Path) -> None:
    (data / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"something else"))
    code = "import idx, sys; from pathlib import Path; idx.read(Path(sys.argv[1]), 't10k')"
    result = subprocess.run(
        [sys.executable, "-c", code, data],
        cwd=ROOT / "examples" / "mnist",
        capture_output=True,
        text=True,
        check=False,
    )
    assert "t10k-labels-idx1-ubyte.gz is no IDX file of bytes" in result.stderr
