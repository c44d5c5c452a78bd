"""What a USB drive brings: networks to join, models, updates; and the report that is left on it.

Looked for in the root, in capitals or not: wifi-creds.txt, models/, models/replace-all.txt, update/. The order never
changes: mount for reading, copy, unmount; join, install, update; mount for writing, report, unmount.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from drivers import drive_report, wifi_creds
from drivers.blocking import Blocking
from drivers.mounts import Drive, DriveError, Entry, Folder, Mounter
from drivers.rig import DeviceError
from drivers.wifi import Place, Seen, Wireless
from drivers.wifi_creds import CredsError

log = logging.getLogger(__name__)

T = TypeVar("T")

CREDS: Final = "wifi-creds.txt"
MODELS: Final = "models"
REPLACE: Final = "replace-all.txt"
UPDATE: Final = "update"
STATUS: Final = "device-status.txt"
PACKAGES: Final = (".tar.gz", ".tgz", ".tar", ".zip")

MOST_NAMES: Final = 10_000
"""Names in a folder that are looked at."""
MOST_MODELS: Final = 100
LARGEST_MODEL: Final = 200 << 20
MOST_UPDATE_FILES: Final = 2000
DEEPEST_UPDATE: Final = 5
LARGEST_UPDATE: Final = 2 << 30
FLOOR: Final = 512 << 20
"""Bytes that copying leaves free on the car's own disk."""
PATIENCE: Final = 120.0
"""Seconds that one file may take to be copied."""


@dataclass(frozen=True, slots=True)
class Deeds:
    """What the car does with what a drive brings. Each raises OSError or ValueError with a sentence for the report."""

    join: Callable[[str, str, bool], Awaitable[None]]
    """Name, password, whether the network hides: as Wireless.connect."""
    install: Callable[[Path], Awaitable[str]]
    """Install the model in this file, in place of one of that name; returns its name. The file goes away thereafter."""
    remove_others: Callable[[Collection[str]], Awaitable[None]]
    """Remove every model but these."""
    update: Callable[[Path], Awaitable[str]] | None = None
    """Take the update in this folder; returns a sentence. None: this car takes none from a drive."""


@dataclass(frozen=True, slots=True)
class Visit:
    """What became of one drive. `lines` are the report, which stands on the drive too if `reported`."""

    drive: Drive
    lines: tuple[str, ...]
    joined: str | None
    installed: tuple[str, ...]
    reported: bool


@dataclass(slots=True)
class _Brought:
    """What was copied from the drive; `models` are pairs of the name there and the copy here."""

    asks: bool = False
    creds_name: str | None = None
    creds: bytes = field(default=b"", repr=False)
    models: list[tuple[str, Path]] = field(default_factory=list)
    replace: bool = False
    incomplete: bool = False
    """A model was there that could not be copied."""
    update: Path | None = None
    remarks: list[str] = field(default_factory=list)


async def visit(
    drive: Drive,
    mounter: Mounter,
    deeds: Deeds,
    network: Wireless | None,
    staging: Path,
    host: str = "",
    floor: int = FLOOR,
    patience: float = PATIENCE,
) -> Visit | None:
    """Do what the drive asks for, and leave a report on it; None when it asks for nothing, and is left untouched.

    `staging` is a folder of the car's own for the copies, `host` the car's name (the machine's, if empty). What is done
    is done with complete copies: a drive pulled out while it is read loses nothing, one pulled out later lacks only its
    report. Raises DeviceError when it cannot be read.
    """
    host = host or socket.gethostname()
    blocking = Blocking(f"USB drive {drive.name}", patience)
    with tempfile.TemporaryDirectory(dir=staging, prefix="drive-") as folder:
        async with mounter.mounted(drive) as root:
            brought = await _Porter(drive, blocking, Path(folder), floor).fetch(root, deeds.update is not None)
        if not brought.asks:
            return None
        joined, on_wifi = await _join(brought, deeds, network)
        on_models, installed = await _install(brought, deeds)
        lines = brought.remarks + on_wifi + on_models
        if brought.update is not None and deeds.update is not None:
            lines.append(f"{UPDATE}: {await _attempt(deeds.update(brought.update))}")
    ssid, places, seen = await _standing(network, joined)
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    block = drive_report.block(host, when, lines, ssid, places)
    addresses = [f"https://{place.address}" for place in places if ":" not in place.address]
    remarks = [when, *on_wifi]
    if addresses:
        remarks.append(f"Open {' or '.join([*addresses, f'https://{host}.local'])} in a browser.")
    if joined is None:
        remarks += drive_report.offer(seen)

    def write(root: Folder) -> None:
        _write_status(root, block)
        if brought.creds_name is not None:
            _write_creds(root, brought.creds_name, brought.creds, host, remarks)

    try:
        async with mounter.mounted(drive, writable=True) as root:
            await blocking.ask(lambda: write(root))
    except OSError as error:
        log.warning("No report could be left on the USB drive %s: %s", drive.name, _reason(error))
        return Visit(drive, tuple(lines), joined, tuple(installed), reported=False)
    return Visit(drive, tuple(lines), joined, tuple(installed), reported=True)


class _Porter:
    """Copies what is ours from a drive, each file with a patience of its own."""

    def __init__(self, drive: Drive, blocking: Blocking, folder: Path, floor: int) -> None:
        self._drive, self._blocking, self._folder, self._floor = drive, blocking, folder, floor
        self._copies = 0

    async def fetch(self, root: Folder, takes_updates: bool) -> _Brought:
        """Raises DeviceError when the drive cannot be looked at, or hangs."""
        brought = _Brought()
        entries = await self._list(root)
        if creds := _named(entries, CREDS, is_file=True):
            await self._fetch_creds(root, creds.name, brought)
        for entry in entries:
            if (
                not creds
                and entry.is_file
                and entry.name.casefold().startswith(("wifi-creds", "wifi_creds", "wificreds"))
            ):
                brought.asks = True
                brought.remarks.append(f"{_shown(entry.name)}: not read; save it as plain text and name it {CREDS}.")
        if models := _named(entries, MODELS, is_file=False):
            brought.asks = True
            with await self._open(root, models.name) as folder:
                await self._fetch_models(folder, brought)
        if update := _named(entries, UPDATE, is_file=False):
            brought.asks = True
            if takes_updates:
                with await self._open(root, update.name) as folder:
                    await self._fetch_update(folder, brought)
            else:
                brought.remarks.append(f"{UPDATE}: this car takes no updates from a drive.")
        return brought

    async def _fetch_creds(self, root: Folder, name: str, brought: _Brought) -> None:
        brought.asks = True
        try:
            brought.creds = await self._ask(lambda: root.read(name, wifi_creds.LARGEST_FILE))
            brought.creds_name = name
        except OSError as error:
            brought.remarks.append(f"{CREDS}: it cannot be read: {_reason(error)}")

    async def _fetch_models(self, folder: Folder, brought: _Brought) -> None:
        entries = await self._list(folder)
        brought.replace = _named(entries, REPLACE, is_file=True) is not None
        if len(entries) == MOST_NAMES:
            brought.remarks.append(f"{MODELS}: there are too many files; only {MOST_NAMES} were looked at.")
        for entry in entries:
            shown = f"{MODELS}/{_shown(entry.name)}"
            if entry.name.startswith(".") or entry.name.casefold() == REPLACE:
                continue
            if not entry.name.casefold().endswith(PACKAGES) or not entry.is_file:
                brought.remarks.append(f"{shown}: left alone; a model is a file that ends in .tar.gz.")
                continue
            to = self._folder / str(len(brought.models)) / entry.name
            if len(brought.models) == MOST_MODELS:
                reason = f"There are more than {MOST_MODELS} models."
            else:
                reason = await self._copy(folder, entry.name, to, LARGEST_MODEL)
            if reason:
                brought.incomplete = True
                brought.remarks.append(f"{shown}: not installed: {reason}")
            else:
                brought.models.append((shown, to))

    async def _fetch_update(self, folder: Folder, brought: _Brought) -> None:
        to = self._folder / UPDATE
        try:
            left = await self._fetch_tree(folder, to, DEEPEST_UPDATE, LARGEST_UPDATE)
            log.debug("An update of %d bytes was copied", LARGEST_UPDATE - left)
            brought.update = to
        except DeviceError:
            raise
        except OSError as error:
            brought.remarks.append(f"{UPDATE}: not taken: {_reason(error)}")

    async def _fetch_tree(self, folder: Folder, to: Path, depth: int, left: int) -> int:
        """Returns how many of the bytes that are `left` are left then."""
        if depth == 0:
            raise OSError(errno.ELOOP, "Its folders lie too deep")
        _make(to)
        for entry in await self._list(folder):
            if entry.is_folder:
                with await self._open(folder, entry.name) as inner:
                    left = await self._fetch_tree(inner, to / entry.name, depth - 1, left)
            elif entry.is_file:
                self._copies += 1
                if self._copies > MOST_UPDATE_FILES:
                    raise OSError(errno.EMFILE, f"It has more than {MOST_UPDATE_FILES} files")
                if reason := await self._copy(folder, entry.name, to / entry.name, left):
                    raise OSError(errno.EIO, f"{_shown(entry.name)}: {reason}")
                left -= (to / entry.name).stat().st_size
        return left

    async def _copy(self, folder: Folder, name: str, to: Path, most: int) -> str:
        """Empty is well; else why not."""
        room = shutil.disk_usage(self._folder).free - self._floor
        if room <= 0:
            return "The car's disk is full; remove models from it."
        _make(to.parent)
        try:
            await self._ask(lambda: folder.copy(name, to, min(most, room)))
        except DeviceError:
            raise
        except OSError as error:
            if error.errno == errno.EFBIG:
                return f"It is larger than {most >> 20} MB." if most <= room else "The car's disk has no room for it."
            return _reason(error)
        return ""

    async def _list(self, folder: Folder) -> list[Entry]:
        return await self._look(lambda: folder.entries(MOST_NAMES))

    async def _open(self, folder: Folder, name: str) -> Folder:
        return await self._look(lambda: folder.folder(name))

    async def _look(self, work: Callable[[], T]) -> T:
        """A drive that cannot even be looked at is lost."""
        try:
            return await self._ask(work)
        except DeviceError:
            raise
        except OSError as error:
            raise DriveError(
                f"The USB drive {self._drive.name} was pulled out, or is damaged; plug it in again."
            ) from error

    async def _ask(self, work: Callable[[], T]) -> T:
        return await self._blocking.ask(work)


async def _join(brought: _Brought, deeds: Deeds, network: Wireless | None) -> tuple[str | None, list[str]]:
    """The network that the car is on because the drive asked for it, and what is to be said."""
    if brought.creds_name is None:
        return None, []
    try:
        wanted = wifi_creds.parse(brought.creds)
    except CredsError as error:
        return None, [f"{CREDS}: {error}"]
    if not wanted:
        return None, [f"{CREDS}: it names no network yet."]
    lines: list[str] = []
    for each in wanted:
        if network is not None and await _present(network) == each.ssid:
            return each.ssid, [*lines, f'Already connected to "{each.ssid}".']
        try:
            await deeds.join(each.ssid, each.password, each.hidden)
        except (OSError, ValueError) as error:
            lines.append(f'Failed to connect to "{each.ssid}": {_reason(error)}')
        else:
            return each.ssid, [*lines, f'Successfully connected to "{each.ssid}".']
    return None, lines


async def _install(brought: _Brought, deeds: Deeds) -> tuple[list[str], list[str]]:
    """What is to be said, and the names of the models that were installed."""
    lines, installed = [], []
    for shown, path in brought.models:
        try:
            installed.append(await deeds.install(path))
        except (OSError, ValueError) as error:
            lines.append(f"{shown}: not installed: {_reason(error)}")
        else:
            lines.append(f"{shown}: installed as {installed[-1]}.")
    if brought.replace and (brought.incomplete or len(installed) < len(brought.models)):
        lines.append(
            f"{MODELS}/{REPLACE}: the car keeps its other models, because not all of these could be installed."
        )
    elif brought.replace:
        try:
            await deeds.remove_others(installed)
        except (OSError, ValueError) as error:
            lines.append(f"{MODELS}/{REPLACE}: the car's other models could not be removed: {_reason(error)}")
        else:
            lines.append(f"{MODELS}/{REPLACE}: the car's other models were removed.")
    return lines, installed


async def _attempt(deed: Awaitable[str]) -> str:
    try:
        return await deed
    except (OSError, ValueError) as error:
        return f"not taken: {_reason(error)}"


async def _present(network: Wireless) -> str | None:
    try:
        return (await network.wifi()).ssid
    except DeviceError as error:
        log.info("Whether the car is on a network is unknown: %s", error)
        return None


async def _standing(network: Wireless | None, joined: str | None) -> tuple[str | None, Sequence[Place], Sequence[Seen]]:
    """The network, the addresses, and unless the car `joined` one the networks in reach; as far as can be known."""
    if network is None:
        return None, [], []
    ssid = await _present(network)
    places: list[Place] = []
    seen: list[Seen] = []
    try:
        places = await network.places()
        if joined is None:
            seen = await network.scan()
    except DeviceError as error:
        log.info("Not all of the network is known: %s", error)
    return ssid, places, seen


def _write_status(root: Folder, block: Sequence[str]) -> None:
    try:
        old = root.read(STATUS, drive_report.LARGEST_STATUS)
    except FileNotFoundError:
        old = b""
    root.replace(STATUS, drive_report.merge(old, block))


def _write_creds(root: Folder, name: str, creds: bytes, host: str, remarks: Sequence[str]) -> None:
    try:
        annotated = drive_report.annotate(creds, host, remarks)
    except CredsError:
        return  # it is no text; device-status.txt says so
    if root.read(name, wifi_creds.LARGEST_FILE) == creds:  # it is still the same drive
        root.replace(name, annotated)


def _named(entries: Sequence[Entry], name: str, is_file: bool) -> Entry | None:
    """The entry of that name, or of that name in capitals."""
    fitting = [
        entry for entry in entries if entry.name.casefold() == name and (entry.is_file if is_file else entry.is_folder)
    ]
    return min(fitting, key=lambda entry: entry.name != name, default=None)


def _shown(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "replace")


def _make(folder: Path) -> None:
    folder.mkdir(exist_ok=True)


def _reason(error: OSError | ValueError) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text if text.endswith((".", "?")) else f"{text}."
