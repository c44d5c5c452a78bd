"""The kernel's device files: found by where their link leads, read and written whole, their refusals in words."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from reprlib import repr as brief
from typing import Final, TypeVar

T = TypeVar("T")

_ADVICE: Final = {
    errno.ENOENT: "check that its driver is loaded and its plug sits",
    errno.ENODEV: "check that its driver is loaded and its plug sits",
    errno.ENXIO: "check that its driver is loaded and its plug sits",
    errno.EACCES: "give this user the car's device groups and udev rules",
    errno.EPERM: "give this user the car's device groups and udev rules",
    errno.EBUSY: "stop the other program that holds it",
    errno.EREMOTEIO: "check its plug, its address and its power",
    errno.ETIMEDOUT: "check its plug, or switch the car off and on",
}


def find(folder: Path, through: str) -> Path | None:
    """The entry of `folder` whose link leads through the device of that name; None when there is none."""
    for entry in sorted(folder.glob("*")):
        if entry.is_symlink() and through in entry.readlink().parent.parts:
            return entry
    return None


def read(path: Path) -> int:
    """The whole number in the file. Raises OSError, also when it holds anything else."""
    with path.open("rb") as file:
        text = file.read(64)
    try:
        return int(text)
    except ValueError as error:
        raise OSError(errno.EIO, f"it reads {brief(text)}", str(path)) from error


def write(path: Path, text: str) -> None:
    """Raises OSError unless the file takes the whole text at once."""
    handle = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        taken = os.write(handle, text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(handle)
    if taken != len(text):
        raise OSError(errno.EIO, f"it took {taken} of the {len(text)} characters of {text!r}", str(path))


def put(path: Path, number: int, tolerance: int = 0) -> None:
    """Write the number and read it back. Raises OSError when it is not there afterwards."""
    write(path, str(number))
    found = read(path)
    if abs(found - number) > tolerance:
        raise OSError(errno.EIO, f"it reads {found} after {number} was written", str(path))


def export(folder: Path, entry: str, number: int) -> Path:
    """The folder's `entry`, asked for by its number unless it is there already. Raises OSError."""
    path = folder / entry
    if not path.exists():
        try:
            write(folder / "export", str(number))
        except OSError:
            if not path.exists():  # else somebody else asked for it at the same time
                raise
    return path


def again(work: Callable[[], T], passing: tuple[int, ...]) -> T:
    """What `work` returns; tried a second and a third time when its error number is one of those that pass."""
    for _ in range(2):
        try:
            return work()
        except OSError as error:
            if error.errno not in passing:
                raise
    return work()


def refusal(device: str, error: OSError) -> str:
    """One sentence for people: which device, why, and what to do."""
    reason = error.strerror or str(error)
    where = f"{error.filename}: " if error.filename else ""
    return (
        f"The {device} does not obey ({where}{reason}); {_ADVICE.get(error.errno or 0, 'switch the car off and on')}."
    )
