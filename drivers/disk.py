"""Remember things on the car's disk so that a power cut at any instant leaves the old or the new, never neither."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace the file at `path` with `data`. When this returns, the data is on the disk. Raises OSError."""
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def link_atomically(path: Path, target: Path) -> None:
    """Make `path` a symbolic link to `target`, in place of whatever link stood there. Raises OSError."""
    draft = path.with_name(f".{path.name}.link")
    draft.unlink(missing_ok=True)
    try:
        draft.symlink_to(target)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_tree(folder: Path) -> None:
    """Bring every file below `folder`, and every name, to the disk. Raises OSError."""
    for entry in folder.iterdir():
        if entry.is_dir():
            sync_tree(entry)
        else:
            _sync(entry)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Bring the names in `folder` to the disk: a file that is synced can still lose its name."""
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Make the folder and hold it for this process alone. Raises OSError when another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(
                f"{folder} is in use by another process; stop that one, or give this one another folder."
            ) from error
        yield
    finally:
        os.close(handle)


class Remembered:
    """Words that were added at any time, the last `most` of them, in a file. Its calls block."""

    def __init__(self, path: Path, most: int = 500) -> None:
        self._path, self._most = path, most

    def __contains__(self, word: str) -> bool:
        return word in self._read()

    def add(self, word: str) -> None:
        """On return it is on the disk. Raises OSError."""
        others = [each for each in self._read() if each != word]
        write_atomically(self._path, json.dumps([*others, word][-self._most :]).encode())

    def _read(self) -> list[str]:
        try:
            known = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return []
        except (OSError, ValueError, RecursionError) as error:
            log.warning("%s is damaged, and begun anew: %s", self._path, error)
            return []
        return [each for each in known if isinstance(each, str)] if isinstance(known, list) else []
