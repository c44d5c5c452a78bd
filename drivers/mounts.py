"""Foreign drives, mounted only as long as something is read or written there, and never trusted.

DriveError (DeviceError)   the drive cannot be mounted, read or written; one sentence says why and what to do
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
import stat
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, Protocol, Self, TypeAlias

from dbus_fast import Variant

from drivers.bus import BusError, CallError, SystemBus
from drivers.rig import DeviceError

log = logging.getLogger(__name__)

PATIENCE: Final = 30.0
"""Seconds that mounting or unmounting may take: an NTFS drive that was not ejected is slow."""
SAFE: Final = "nosuid,nodev,noexec"
KERNEL_NAMES: Final = {
    "vfat": "vfat",
    "exfat": "exfat",
    "ntfs": "ntfs3,ntfs",
    "ext2": "ext2,ext4",
    "ext3": "ext3,ext4",
    "ext4": "ext4",
}
"""The file systems that are read, as udev names them: what the kernel calls them."""

DRAFT: Final = ".hotlap-draft"
"""A file on its way to a drive; it is left there when the drive is pulled out."""
PLACE: Final = "hotlap-drive-"
"""How the names of the folders begin where drives are mounted without udisks2."""
FOREIGN: Final = "its files belong to another user; use a drive with FAT32 or exFAT, or permit them to all: chmod a+rwX"

_UDISKS: Final = "org.freedesktop.UDisks2"
_FILE_SYSTEM: Final = f"{_UDISKS}.Filesystem"
_QUIETLY: Final = {"auth.no_user_interaction": Variant("b", True)}
_GONE: Final = (".NotMounted", ".UnknownObject", ".UnknownInterface", ".UnknownMethod")
_CHUNK: Final = 1 << 20


class DriveError(DeviceError):
    """The drive does not do its work."""


@dataclass(frozen=True, slots=True)
class Drive:
    """A partition, or a disk without partitions: /dev/sda1, the file system as udev names it, its label and UUID.

    `plugging` is another one each time that it is plugged in.
    """

    node: str
    file_system: str
    label: str = ""
    uuid: str = ""
    plugging: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.label or Path(self.node).name


@dataclass(frozen=True, slots=True)
class Entry:
    """What a name in a folder stands for. Links and devices are neither file nor folder."""

    name: str
    is_file: bool
    is_folder: bool


class Folder:
    """A folder of a drive. Every path is one name in it; a link is followed nowhere. All calls block.

    They raise OSError, the moment that the drive is pulled out at the latest.
    """

    def __init__(self, path: Path | str, within: int | None = None) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self._handle = os.open(path, flags, dir_fd=within)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        return self._handle < 0

    def close(self) -> None:
        """May be called twice."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def entries(self, most: int) -> list[Entry]:
        """What is there, by name, but not looking at more than `most` of it."""
        with os.scandir(self._handle) as listing:
            found = [
                Entry(each.name, each.is_file(follow_symlinks=False), each.is_dir(follow_symlinks=False))
                for each in islice(listing, most)
            ]
        return sorted(found, key=lambda entry: entry.name)

    def folder(self, name: str) -> Folder:
        return type(self)(name, self._handle)

    def read(self, name: str, most: int) -> bytes:
        """The whole file. Raises OSError (EFBIG) when it has more than `most` bytes."""
        return b"".join(self._chunks(name, most))

    def read_end(self, name: str, most: int) -> bytes:
        """The last `most` bytes of the file, or all of it."""
        return b"".join(self._chunks(name, most, cut=True))

    def copy(self, name: str, to: Path, most: int) -> str:
        """The file as a new one at `to`, on the disk when this returns; on an error nothing is left of it.

        Returns its SHA-256.
        """
        digest = hashlib.sha256()
        with to.open("xb") as file:
            try:
                for chunk in self._chunks(name, most):
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                to.unlink(missing_ok=True)
                raise
        return digest.hexdigest()

    def remove_draft(self) -> None:
        """What a drive that was pulled out has kept of `replace`."""
        with suppress(FileNotFoundError):
            os.unlink(DRAFT, dir_fd=self._handle)

    def rescue_draft(self, name: str) -> None:
        """Give the draft the name that it was to have."""
        os.rename(DRAFT, name, src_dir_fd=self._handle, dst_dir_fd=self._handle)

    def replace(self, name: str, data: bytes) -> None:
        """The file holds `data` and is on the drive when this returns; on an error the old file still stands.

        It keeps its permissions, as far as the file system knows such; a new one may be read by all.
        """
        mode = 0o644
        with suppress(FileNotFoundError):
            old = os.stat(name, dir_fd=self._handle, follow_symlinks=False).st_mode
            mode = stat.S_IMODE(old) if stat.S_ISREG(old) else mode
        self.remove_draft()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(DRAFT, flags, 0o600, dir_fd=self._handle)
        try:
            try:
                with suppress(PermissionError):
                    os.fchmod(handle, mode)
                view = memoryview(data)
                while view:
                    view = view[os.write(handle, view) :]
                os.fsync(handle)
            finally:
                os.close(handle)
            os.rename(DRAFT, name, src_dir_fd=self._handle, dst_dir_fd=self._handle)
        except BaseException:
            with suppress(OSError):
                os.unlink(DRAFT, dir_fd=self._handle)
            raise
        with suppress(OSError):  # not every file system can do this to a folder; unmounting does it anyway
            os.fsync(self._handle)

    def _chunks(self, name: str, most: int, cut: bool = False) -> Iterator[bytes]:
        with _opened(name, self._handle) as handle:
            look = os.fstat(handle)
            if not stat.S_ISREG(look.st_mode):
                raise OSError(errno.EINVAL, "no file", name)
            if cut and look.st_size > most:
                os.lseek(handle, -most, os.SEEK_END)
            left = most
            while chunk := os.read(handle, _CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise OSError(errno.EFBIG, f"larger than {most} bytes", name)
                yield chunk


class Mounter(Protocol):
    def mounted(self, drive: Drive, writable: bool = False) -> AbstractAsyncContextManager[Folder]:
        """The drive's root for as long as the block lasts, and unmounted on every way out. Raises DriveError.

        Mounted without programs, devices and set-user-id, and for reading only unless `writable`.
        """
        ...


_Undo: TypeAlias = Callable[[], Awaitable[None]]


class Mounts:
    """The Mounter of a real car: by udisks2 where it runs, else by mount(8), which only root may use."""

    def __init__(
        self,
        bus: SystemBus | None = None,
        mount: tuple[str, ...] = ("mount",),
        unmount: tuple[str, ...] = ("umount",),
        patience: float = PATIENCE,
    ) -> None:
        """`bus` is where udisks2 is asked, with patience enough; the two commands are for where it is not."""
        self._bus = bus or SystemBus(patience=patience)
        self._mount, self._unmount, self._patience = mount, unmount, patience

    @asynccontextmanager
    async def mounted(self, drive: Drive, writable: bool = False) -> AsyncIterator[Folder]:
        attaching = asyncio.create_task(self._attach(drive, writable))
        try:
            path, undo = await asyncio.shield(attaching)
        except (LookupError, TypeError, ValueError) as error:
            raise DriveError(f"udisks2 answers what is no answer about the drive {drive.name}; restart it.") from error
        except asyncio.CancelledError:
            await self._take_back(attaching)
            raise
        try:
            try:
                folder = Folder(path)
            except PermissionError as error:
                raise DriveError(f"The drive {drive.name} cannot be read: {FOREIGN}.") from error
            except OSError as error:
                raise DriveError(f"The drive {drive.name} was pulled out, or is damaged ({error.strerror}).") from error
            with folder:
                yield folder
        finally:
            await asyncio.shield(undo())

    async def close(self) -> None:
        """Let go of the bus. May be called twice."""
        await self._bus.close()

    async def _take_back(self, attaching: asyncio.Task[tuple[Path, _Undo]]) -> None:
        with suppress(DriveError, LookupError, TypeError, ValueError):
            _, undo = await attaching
            await undo()

    async def _attach(self, drive: Drive, writable: bool) -> tuple[Path, _Undo]:
        options = f"{'rw' if writable else 'ro'},{SAFE}"
        try:
            await self._resolve(drive)
        except BusError as error:
            log.debug("Mounting without udisks2: %s", error)
            return await self._attach_by_command(drive, options)
        try:
            return await self._attach_by_udisks(drive, options)
        except (BusError, TimeoutError) as error:
            if isinstance(error, CallError) and error.forbidden:
                raise DriveError(
                    f"The car's user may not mount the drive {drive.name}; run scripts/install-car again to permit it."
                ) from error
            raise DriveError(
                f"The drive {drive.name} cannot be mounted ({str(error) or 'udisks2 does not see it'}); "
                "check it on a computer."
            ) from error

    # By udisks2: https://storaged.org/doc/udisks2-api/latest/gdbus-org.freedesktop.UDisks2.Filesystem.html

    async def _resolve(self, drive: Drive) -> str | None:
        path, manager = "/org/freedesktop/UDisks2/Manager", f"{_UDISKS}.Manager"
        where = {"path": Variant("s", drive.node)}
        [found] = await self._bus.call(_UDISKS, path, manager, "ResolveDevice", "a{sv}a{sv}", where, {})
        return next(iter(found), None)

    async def _attach_by_udisks(self, drive: Drive, options: str) -> tuple[Path, _Undo]:
        async with asyncio.timeout(self._patience):
            while (device := await self._resolve(drive)) is None:
                await asyncio.sleep(0.1)  # it hears of a new drive when we do, and may be slower
        undo = partial(self._detach_by_udisks, drive, device)
        arguments = _QUIETLY | {"options": Variant("s", options)}
        try:
            path = await self._mount_by_udisks(device, arguments)
        except CallError as error:
            if not error.name.endswith(".AlreadyMounted"):
                raise
            # A desktop was faster, and its mount is for its own user alone.
            log.info("The drive %s is taken over from whoever mounted it", drive.name)
            await self._unmount_by_udisks(device)
            path = await self._mount_by_udisks(device, arguments)
        except BusError:
            await undo()  # it may be mounted all the same
            raise
        return path, undo

    async def _mount_by_udisks(self, device: str, arguments: dict[str, Variant]) -> Path:
        [path] = await self._bus.call(_UDISKS, device, _FILE_SYSTEM, "Mount", "a{sv}", arguments)
        return Path(path)

    async def _detach_by_udisks(self, drive: Drive, device: str) -> None:
        try:
            await self._unmount_by_udisks(device)
        except BusError as error:
            log.warning("The drive %s does not let itself be unmounted: %s", drive.name, error)

    async def _unmount_by_udisks(self, device: str) -> None:
        """One that is in use goes out of sight at once, and is let go when it is free. Raises BusError."""
        for force in (False, True):
            arguments = _QUIETLY | {"force": Variant("b", force)}
            try:
                await self._bus.call(_UDISKS, device, _FILE_SYSTEM, "Unmount", "a{sv}", arguments)
            except BusError as error:
                if isinstance(error, CallError) and error.name.endswith(_GONE):
                    return
                if force or (isinstance(error, CallError) and error.forbidden):
                    raise
            else:
                return

    # By mount(8)

    async def _attach_by_command(self, drive: Drive, options: str) -> tuple[Path, _Undo]:
        if drive.file_system in ("vfat", "exfat", "ntfs"):  # these know no owners
            options += f",uid={os.getuid()},gid={os.getgid()}"
        place = Path(tempfile.mkdtemp(prefix=PLACE))
        undo = partial(self._detach_by_command, drive, place)
        names = KERNEL_NAMES.get(drive.file_system, drive.file_system)
        said = await self._run(*self._mount, "-t", names, "-o", options, "--", drive.node, str(place))
        if said is not None:
            await undo()
            raise DriveError(f"The drive {drive.name} cannot be mounted ({said}); check it on a computer.")
        return place, undo

    async def _detach_by_command(self, drive: Drive, place: Path) -> None:
        said = await self._run(*self._unmount, "--", str(place))
        if said is not None and "not mounted" not in said:
            log.warning("The drive %s does not let itself be unmounted: %s", drive.name, said)
            await self._run(*self._unmount, "--lazy", "--", str(place))
        _remove(place)

    async def _run(self, *command: str) -> str | None:
        """None is well; else what the command said."""
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, env={**os.environ, "LC_ALL": "C"}
            )
        except OSError as error:
            return f"{command[0]}: {error.strerror}"
        try:
            async with asyncio.timeout(self._patience):
                _, said = await process.communicate()
        except TimeoutError:
            process.kill()
            return f"{command[0]} took longer than {self._patience:g} s"
        return (
            None if process.returncode == 0 else said.decode(errors="replace").strip().rstrip(".") or "no reason given"
        )


def _remove(place: Path) -> None:
    with suppress(OSError):
        place.rmdir()


@contextmanager
def _opened(name: str, within: int) -> Iterator[int]:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO must not hold us up
    handle = os.open(name, flags, dir_fd=within)
    try:
        yield handle
    finally:
        os.close(handle)
