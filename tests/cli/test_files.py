"""Files that commands read and write."""

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from fedplan.cli.files import read_arrays, read_object, write_whole
from fedplan.errors import ConfigError, DataError


def test_data_are_the_arrays_x_and_y(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", weights=np.zeros(9), y=np.ones(2), x=np.zeros((2, 3)))
    x, y = read_arrays(tmp_path / "d.npz")
    assert x.shape == (2, 3)
    assert y.tolist() == [1, 1]


def test_data_are_else_the_first_two_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=np.zeros((2, 3)), labels=np.ones(2), more=np.zeros(5))
    x, y = read_arrays(tmp_path / "d.npz")
    assert x.shape == (2, 3)
    assert y.tolist() == [1, 1]


def test_data_that_cannot_be_trained_on_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, x=np.zeros((2, 3)))
    with pytest.raises(DataError, match="two arrays are needed"):
        read_arrays(path)
    np.savez(path, x=np.zeros((2, 3)), y=np.zeros(3))
    with pytest.raises(DataError, match=r"their shapes are \(2, 3\) and \(3,\)"):
        read_arrays(path)
    np.savez(path, x=np.zeros((0, 3)), y=np.zeros(0))
    with pytest.raises(DataError, match="no sample in it, so nothing to train on"):
        read_arrays(path)
    np.savez(path, x=np.array([{}]), y=np.zeros(1))  # an array of objects is a pickle, which can run code
    with pytest.raises(DataError, match="no file that"):
        read_arrays(path)
    for content in (b"", b"PK\x03\x04 broken", b"text"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="no file that"):
            read_arrays(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))  # a single array, without a name
    with pytest.raises(DataError, match="two arrays are needed"):
        read_arrays(path)


def test_a_config_is_a_json_object(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text('{"name": "m"}')
    assert read_object(path) == {"name": "m"}
    for text, reason in (("[1]", "object is needed"), ("{name: 1}", "not JSON"), ("", "not JSON")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=reason):
            read_object(path)


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.pb"
    path.write_bytes(b"old")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_written_file_has_the_usual_permissions(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_whole(tmp_path / "out.pb", b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out.pb").stat().st_mode) == 0o644


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.pb").symlink_to(tmp_path / "out.pb")
    write_whole(tmp_path / "link.pb", b"new")
    assert (tmp_path / "link.pb").is_symlink()
    assert (tmp_path / "out.pb").read_bytes() == b"new"


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    write_whole(Path(f"/dev/fd/{writer}"), b"new")
    os.close(writer)
    assert os.read(reader, 10) == b"new"
    os.close(reader)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    with pytest.raises(OSError, match="folder"):
        write_whole(path, b"new")
    assert list(tmp_path.iterdir()) == [path]
