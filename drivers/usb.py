"""USB drives come and go: tell of each new one, by the kernel's events and udev's knowledge."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Never

from pyudev import Context, Device, Monitor  # type: ignore[import-untyped]

from drivers.mounts import KERNEL_NAMES, Drive
from drivers.rig import DeviceError

log = logging.getLogger(__name__)

GUESTS: Final = ("/media/", "/run/media/", "/mnt/")
"""Where desktops mount what was plugged in; a disk that is mounted anywhere else belongs to the system."""
RETRY: Final = 10.0
"""Seconds until udev is asked again when it could not be asked."""


class UsbDrives:
    """The drives at the USB plugs: no memory cards of the board's own, and no disk that the system runs from."""

    def __init__(self, mounts: Path = Path("/proc/self/mountinfo")) -> None:
        self._mounts = mounts
        self._told: set[tuple[str, ...]] = set()
        self._complained: set[str] = set()

    async def watch(self, handle: Callable[[Drive], Awaitable[object]]) -> Never:
        """Hand over every drive, one after the other: those that are there and those that come, each once a plugging.

        What `handle` raises as DeviceError is logged. Runs until it is cancelled.
        """
        while True:
            try:
                await self._watch(handle)
            except (OSError, ImportError) as error:
                self._complain(f"USB drives are not noticed ({error}); install udev, or restart the car.")
                await asyncio.sleep(RETRY)

    async def _watch(self, handle: Callable[[Drive], Awaitable[object]]) -> Never:
        context = Context()
        monitor = Monitor.from_netlink(context)
        monitor.filter_by("block")
        monitor.start()
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(monitor.fileno(), news.set)
        try:
            while True:
                news.clear()
                _drain(monitor)
                drive = self._next(context)
                if drive is None:
                    await news.wait()
                    continue
                try:
                    await handle(drive)
                except DeviceError as error:
                    log.warning("USB drive %s: %s", drive.name, error)
        finally:
            loop.remove_reader(monitor.fileno())

    def _next(self, context: Context) -> Drive | None:
        """A drive that nobody was told of since it was plugged in. What left is forgotten."""
        present = {_plugging(device): device for device in self._usable(context)}
        self._told &= present.keys()
        new = sorted(present.keys() - self._told)
        if not new:
            return None
        self._told.add(new[0])
        device = present[new[0]]
        label = device.properties.get("ID_FS_LABEL", "")
        return Drive(device.device_node, device.properties["ID_FS_TYPE"], label if label.isprintable() else "")

    def _usable(self, context: Context) -> list[Device]:
        """Partitions, and disks without any, that came by USB and carry a file system that is read here."""
        found = []
        system = self._system_disks(context)
        for device in context.list_devices(subsystem="block"):
            file_system = device.properties.get("ID_FS_TYPE", "")
            if device.find_parent("usb", "usb_device") is None or _disk(device) in system or not file_system:
                continue
            if device.properties.get("ID_FS_USAGE", "filesystem") != "filesystem" or file_system not in KERNEL_NAMES:
                self._complain(
                    f"The USB drive {device.sys_name} carries {file_system}, which the car does not read; "
                    "format it as FAT32, exFAT, NTFS or ext4."
                )
                continue
            found.append(device)
        return found

    def _system_disks(self, context: Context) -> set[str]:
        busy = _mounted(self._mounts)
        devices = context.list_devices(subsystem="block")
        return {_disk(device) for device in devices if device.properties.get("MAJOR") and _numbers(device) in busy}

    def _complain(self, sentence: str) -> None:
        if sentence not in self._complained:
            self._complained.add(sentence)
            log.warning(sentence)


def _drain(monitor: Monitor) -> None:
    """Every event means the same: look again. One that was lost, because too many came, does no harm either."""
    try:
        while monitor.poll(0) is not None:
            pass
    except OSError as error:
        log.debug("Events of block devices were lost: %s", error)


def _plugging(device: Device) -> tuple[str, ...]:
    """Another one each time that the device, or the card in its slot, is plugged in."""
    properties = device.properties
    return (device.device_path, *(properties.get(key, "") for key in ("DISKSEQ", "USEC_INITIALIZED", "ID_FS_UUID")))


def _disk(device: Device) -> str:
    parent = device.find_parent("block", "disk") if device.device_type == "partition" else None
    return str((parent or device).device_path)


def _numbers(device: Device) -> str:
    return f"{device.properties['MAJOR']}:{device.properties['MINOR']}"


def _mounted(mounts: Path) -> set[str]:
    """The numbers (major:minor) of all devices that the system itself has mounted. proc(5), mountinfo."""
    lines = [line.split() for line in mounts.read_text(errors="replace").splitlines()]
    return {line[2] for line in lines if len(line) > 4 and not line[4].startswith(GUESTS)}
