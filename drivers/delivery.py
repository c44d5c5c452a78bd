"""What a USB drive brings: networks to join and models; and the report that is left on it.

Looked for in the root, in capitals or not: wifi-creds.txt, models/, models/replace-all.txt. The order never changes:
mount for reading, copy, unmount; join, install; mount for writing, report, unmount.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
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
from drivers.disk import Remembered
from drivers.mounts import DRAFT, FOREIGN, Drive, DriveError, Entry, Folder, Mounter
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
MOST_NETWORKS: Final = 20
"""Networks of one drive that are tried: each may take a minute."""
MOST_REMARKS: Final = 150
LARGEST_MARKER: Final = 64 << 10
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
    receive: Callable[[], object] = bool
    """Called when there are models: they are copied and installed from now on until the visit is over."""


@dataclass(frozen=True, slots=True)
class Visit:
    """What became of one drive. `lines` are the report, which stands on the drive too if there is no `trouble`."""

    drive: Drive
    lines: tuple[str, ...]
    joined: str | None
    installed: tuple[str, ...]
    trouble: str
    """Why the report could not be left on the drive, and what to do; else empty."""


@dataclass(slots=True)
class _Brought:
    """What was copied from the drive; `models` are pairs of the name there and the copy here."""

    asks: bool = False
    creds_name: str | None = None
    creds: bytes = field(default=b"", repr=False)
    rescued: bool = False
    """The networks are those of a draft: the drive was pulled out before that got its name."""
    draft: bool = False
    models: list[tuple[str, Path]] = field(default_factory=list)
    digests: list[tuple[str, str]] = field(default_factory=list)
    """The models' names on the drive, and of their bytes."""
    replace: bytes | None = None
    """What stands in replace-all.txt, if it is there."""
    incomplete: bool = False
    """A model was there, or may be, that was not copied."""
    remarks: list[str] = field(default_factory=list)


async def visit(
    drive: Drive,
    mounter: Mounter,
    deeds: Deeds,
    network: Wireless | None,
    staging: Path,
    served: Remembered,
    left_in: bool = False,
    host: str = "",
    floor: int = FLOOR,
    patience: float = PATIENCE,
) -> Visit | None:
    """Do what the drive asks for, and leave a report on it; None when it asks for nothing, and is left untouched.

    `staging` is a folder of the car's own for the copies, `host` the car's name (the machine's, if empty). What is done
    is done with complete copies: a drive pulled out while it is read loses nothing, one pulled out later lacks only its
    report. Models are not removed by the same order twice, and where the drive was `left_in` while the car was off,
    not installed twice either. Raises DeviceError when it cannot be read.
    """
    host = host or socket.gethostname()
    blocking = Blocking(f"USB drive {drive.name}", patience)
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=staging, prefix="drive-"))
    try:
        async with mounter.mounted(drive) as root:
            brought = await _Porter(drive, blocking, folder, floor, deeds.receive).fetch(root)
        if not brought.asks:
            if brought.draft:
                log.info(
                    "%s", await _write(drive, mounter, blocking, Folder.remove_draft) or "A draft was cleared away"
                )
            return None
        if brought.creds_name is not None and network is not None:
            await network.ready()
        joined, on_wifi = await _join(brought, deeds, network)
        on_models, installed = await _install(drive, brought, deeds, served, left_in)
    finally:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))
    lines = brought.remarks + on_wifi + on_models
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
        if brought.rescued and root.read(DRAFT, wifi_creds.LARGEST_FILE) == brought.creds:
            root.rescue_draft(CREDS)
        _write_status(root, block)
        if brought.creds_name is not None:
            _write_creds(root, brought.creds_name, brought.creds, host, remarks)

    trouble = await _write(drive, mounter, blocking, write)
    return Visit(drive, tuple(lines), joined, tuple(installed), trouble)


async def _write(drive: Drive, mounter: Mounter, blocking: Blocking, work: Callable[[Folder], None]) -> str:
    """Empty is well; else what is wrong."""
    try:
        async with mounter.mounted(drive, writable=True) as root:
            await blocking.ask(lambda: work(root))
    except OSError as error:
        why = f"{FOREIGN}." if isinstance(error, PermissionError) else _reason(error)
        return f"The USB drive {drive.name} cannot be written, so no report is on it: {why}"
    return ""


class _Porter:
    """Copies what is ours from a drive, each file with a patience of its own."""

    def __init__(
        self,
        drive: Drive,
        blocking: Blocking,
        folder: Path,
        floor: int,
        receive: Callable[[], object],
    ) -> None:
        self._drive, self._blocking, self._folder, self._floor = drive, blocking, folder, floor
        self._receive = receive

    async def fetch(self, root: Folder) -> _Brought:
        """Raises DeviceError when the drive cannot be looked at, or hangs."""
        brought = _Brought()
        entries = await self._list(root)
        brought.draft = any(entry.name == DRAFT for entry in entries)
        if creds := _named(entries, CREDS, is_file=True):
            await self._fetch_creds(root, creds.name, brought)
        elif draft := _named(entries, DRAFT, is_file=True):
            creds = await self._fetch_draft(root, draft, brought)
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
            try:
                self._receive()
                with await self._open(root, models.name) as folder:
                    await self._fetch_models(folder, brought)
            except PermissionError:
                brought.remarks.append(f"{MODELS}: it cannot be read: {FOREIGN}.")
        if _named(entries, UPDATE, is_file=False):
            brought.asks = True
            brought.remarks.append(f"{UPDATE}: left alone; this car has no updater yet.")
        if (more := len(brought.remarks) - MOST_REMARKS) > 0:
            brought.remarks[MOST_REMARKS:] = [f"And {more} more of this kind."]
        return brought

    async def _fetch_creds(self, root: Folder, name: str, brought: _Brought) -> None:
        brought.asks = True
        try:
            brought.creds = await self._ask(lambda: root.read(name, wifi_creds.LARGEST_FILE))
            brought.creds_name = name
        except DeviceError:
            raise
        except PermissionError:
            brought.remarks.append(f"{CREDS}: it cannot be read: {FOREIGN}.")
        except OSError as error:
            brought.remarks.append(f"{CREDS}: it cannot be read: {_reason(error)}")

    async def _fetch_draft(self, root: Folder, draft: Entry, brought: _Brought) -> Entry | None:
        """The networks, where only the renaming was missing."""
        try:
            creds = await self._ask(lambda: root.read(draft.name, wifi_creds.LARGEST_FILE))
        except DeviceError:
            raise
        except OSError as error:
            log.info("A draft on the USB drive %s cannot be read: %s", self._drive.name, _reason(error))
            return None
        if not drive_report.is_annotated(creds):
            return None
        brought.asks = brought.rescued = True
        brought.creds, brought.creds_name = creds, CREDS
        return draft

    async def _fetch_models(self, folder: Folder, brought: _Brought) -> None:
        entries = await self._list(folder)
        if marker := _named(entries, REPLACE, is_file=True):
            brought.replace = await self._look(lambda: folder.read_end(marker.name, LARGEST_MARKER))
        if len(entries) == MOST_NAMES:
            brought.incomplete = True
            brought.remarks.append(f"{MODELS}: there are too many files; only {MOST_NAMES} were looked at.")
        for entry in entries:
            shown = f"{MODELS}/{_shown(entry.name)}"
            if entry.name.startswith(".") or entry.name.casefold() == REPLACE:
                continue
            if not entry.name.casefold().endswith(PACKAGES) or not entry.is_file:
                brought.remarks.append(f"{shown}: left alone; a model is a file that ends in .tar.gz.")
                continue
            to = self._folder / str(len(brought.models)) / entry.name
            try:
                if len(brought.models) == MOST_MODELS:
                    raise ValueError(f"There are more than {MOST_MODELS} models.")
                digest = await self._copy(folder, entry.name, to, LARGEST_MODEL)
            except ValueError as error:
                brought.incomplete = True
                brought.remarks.append(f"{shown}: not installed: {error}")
            else:
                brought.models.append((shown, to))
                brought.digests.append((entry.name, digest))

    async def _copy(self, folder: Folder, name: str, to: Path, most: int) -> str:
        """Returns the digest. Raises ValueError with the reason why not."""
        room = shutil.disk_usage(self._folder).free - self._floor
        if room <= 0:
            raise ValueError("The car's disk is full; remove models from it.")
        to.parent.mkdir(exist_ok=True)
        try:
            return await self._ask(lambda: folder.copy(name, to, min(most, room)))
        except DeviceError:
            raise
        except PermissionError as error:
            raise ValueError(f"It cannot be read: {FOREIGN}.") from error
        except OSError as error:
            if error.errno != errno.EFBIG:
                raise ValueError(_reason(error)) from error
            if most <= room:
                raise ValueError(f"It is larger than {most >> 20} MB.") from error
            raise ValueError("The car's disk has no room for it.") from error

    async def _list(self, folder: Folder) -> list[Entry]:
        return await self._look(lambda: folder.entries(MOST_NAMES))

    async def _open(self, folder: Folder, name: str) -> Folder:
        return await self._look(lambda: folder.folder(name), Folder.close)

    async def _look(self, work: Callable[[], T], discard: Callable[[T], object] | None = None) -> T:
        """A drive that cannot even be looked at is lost."""
        try:
            return await self._ask(work, discard)
        except (DeviceError, PermissionError):
            raise
        except OSError as error:
            raise DriveError(
                f"The USB drive {self._drive.name} was pulled out, or is damaged; plug it in again."
            ) from error

    async def _ask(self, work: Callable[[], T], discard: Callable[[T], object] | None = None) -> T:
        return await self._blocking.ask(work, discard)


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
    if len(wanted) > MOST_NETWORKS:
        lines.append(f"{CREDS}: it names {len(wanted)} networks; only the first {MOST_NETWORKS} are tried.")
    for each in wanted[:MOST_NETWORKS]:
        if network is not None and await _present(network) == each.ssid:
            return each.ssid, [*lines, f'Already connected to "{each.ssid}".']
        try:
            await deeds.join(each.ssid, each.password, each.hidden)
        except (OSError, ValueError) as error:
            lines.append(f'Failed to connect to "{each.ssid}": {_reason(error)}')
        else:
            return each.ssid, [*lines, f'Successfully connected to "{each.ssid}".']
    return None, lines


async def _install(
    drive: Drive, brought: _Brought, deeds: Deeds, served: Remembered, left_in: bool
) -> tuple[list[str], list[str]]:
    """What is to be said, and the names of the models that were installed."""
    if not brought.models and brought.replace is None:
        return [], []
    marker = "" if brought.replace is None else hashlib.sha256(brought.replace).hexdigest()
    order = hashlib.sha256(json.dumps([drive.uuid, marker, sorted(brought.digests)]).encode()).hexdigest()
    if left_in and order in served:
        return [f"{MODELS}: left alone, since it was done before; plug the drive in anew to have it done again."], []
    lines, installed = [], []
    for shown, path in brought.models:
        try:
            installed.append(await deeds.install(path))
        except (OSError, ValueError) as error:
            lines.append(f"{shown}: not installed: {_reason(error)}")
        else:
            lines.append(f"{shown}: installed as {installed[-1]}.")
    if brought.replace is not None:
        complete = not brought.incomplete and len(installed) == len(brought.models)
        lines.append(f"{MODELS}/{REPLACE}: {await _replace(f'all {order}', complete, installed, deeds, served)}")
    try:
        await asyncio.to_thread(served.add, order)
    except OSError as error:
        log.warning("What the USB drive %s ordered is not remembered: %s", drive.name, error)
    return lines, installed


async def _replace(order: str, complete: bool, keep: Collection[str], deeds: Deeds, served: Remembered) -> str:
    """What became of the car's other models."""
    if not complete:
        return "the car keeps its other models, because not all of these could be installed."
    if order in served:
        return (
            "the car's other models were removed before, and it keeps those that came since; write anything else into "
            "this file to have them removed too."
        )
    try:
        await asyncio.to_thread(served.add, order)  # first: an order that is forgotten would be obeyed again
        await deeds.remove_others(keep)
    except (OSError, ValueError) as error:
        return f"the car's other models could not be removed: {_reason(error)}"
    return "the car's other models were removed."


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
        old = root.read_end(STATUS, drive_report.LARGEST_STATUS)
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
    return drive_report.one_line(os.fsencode(name).decode("utf-8", "replace"))


def _reason(error: OSError | ValueError) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text if text.endswith((".", "?")) else f"{text}."
