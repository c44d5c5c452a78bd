"""What is remembered on disk is the old or the new, never neither; and one car has one folder."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drivers.disk import Remembered, claim, link_atomically, sync_tree, write_atomically


@contextmanager
def disk_of(most: int) -> Iterator[None]:
    """No file may grow beyond `most` bytes: the nearest thing to a full disk that needs no disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("data", [b"", b"new", bytes(100_000)])
def test_a_file_is_written_and_replaced(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    for content in (data, b"old", data):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_a_file_gets_its_mode_and_not_the_umask_s(tmp_path: Path, mode: int) -> None:
    mask = os.umask(0o077)
    try:
        write_atomically(tmp_path / "file", b"secret", mode)
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with disk_of(1000), pytest.raises(OSError, match="too large"):
        write_atomically(path, bytes(100_000))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_an_error_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "none" / "file", b"new")


def test_a_folder_in_the_way_stays(tmp_path: Path) -> None:
    (tmp_path / "file" / "inner").mkdir(parents=True)
    with pytest.raises(OSError, match="irectory"):
        write_atomically(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
    assert (tmp_path / "file" / "inner").is_dir()


def test_a_link_is_made_and_replaced(tmp_path: Path) -> None:
    link = tmp_path / "link"
    for target in ("one", "two"):
        link_atomically(link, Path(target))
        assert link.readlink() == Path(target)
    assert list(tmp_path.iterdir()) == [link]


def test_a_draft_that_a_cut_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".link.link").symlink_to("half")
    link_atomically(tmp_path / "link", Path("whole"))
    assert [(entry.name, str(entry.readlink())) for entry in tmp_path.iterdir()] == [("link", "whole")]


def test_a_link_that_cannot_be_made_leaves_no_draft(tmp_path: Path) -> None:
    (tmp_path / "link" / "inner").mkdir(parents=True)
    with pytest.raises(OSError, match="irectory"):
        link_atomically(tmp_path / "link", Path("target"))
    assert list(tmp_path.iterdir()) == [tmp_path / "link"]


def test_a_tree_is_synced_and_not_changed(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"data")
    sync_tree(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "b", "file"]
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"data"


def test_what_is_remembered_is_there_anew_and_only_the_last_of_it(tmp_path: Path) -> None:
    path = tmp_path / "words"
    for word in ("a", "b", "c", "b", "d"):
        Remembered(path, 3).add(word)
    assert [word for word in "abcd" if word in Remembered(path, 3)] == ["b", "c", "d"]


@pytest.mark.parametrize("data", [b"", b"\xff", b"7", b'{"a": 1}', b"[[", b"[" * 100_000, b'[1, null, ["a"]]'])
def test_what_is_damaged_is_begun_anew(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "words"
    path.write_bytes(data)
    assert "a" not in Remembered(path)
    Remembered(path).add("a")
    assert "a" in Remembered(path)


OTHER_CAR = """
import sys
from pathlib import Path
from drivers.disk import claim
try:
    with claim(Path(sys.argv[1])):
        print("mine", flush=True)
        sys.stdin.read()
except OSError as error:
    print(error)
"""


@contextmanager
def other_car(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Another process that claims the folder: what it said first, and the process."""
    command = [sys.executable, "-c", OTHER_CAR, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


def test_a_second_car_is_refused_the_folder_in_a_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "state"
    with claim(folder), other_car(folder) as (said, _):
        assert said == f"{folder} is in use by another process; stop that one, or give this one another folder."
    with other_car(folder) as (said, _):
        assert said == "mine"


def test_a_car_that_was_killed_leaves_its_folder_free(tmp_path: Path) -> None:
    with other_car(tmp_path) as (said, process):
        assert said == "mine"
        with pytest.raises(OSError, match="in use"), claim(tmp_path):
            pass
        process.kill()
        process.wait()
        with claim(tmp_path):
            assert tmp_path.is_dir()


def test_the_folder_is_freed_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), claim(tmp_path):
        raise ZeroDivisionError
    with other_car(tmp_path) as (said, _):
        assert said == "mine"
