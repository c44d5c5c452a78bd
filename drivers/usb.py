"""USB drives come and go: tell which are plugged in, by the kernel's events and udev's knowledge."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

from pyudev import Context, Device, Monitor  # type: ignore[import-untyped]

from drivers.mounts import KERNEL_NAMES, PLACE, Drive

log = logging.getLogger(__name__)

GUESTS: Final = ("/media/", "/run/media/", "/mnt/")
"""Where desktops mount what was plugged in; a disk that is mounted anywhere else belongs to the system."""


class UsbDrives:
    """The drives at the USB plugs: no memory cards of the board's own, and no disk that the system runs from."""

    def __init__(self, mounts: Path = Path("/proc/self/mountinfo")) -> None:
        self._mounts = mounts
        self._complained: set[str] = set()

    async def watch(self) -> AsyncGenerator[frozenset[Drive], None]:
        """The drives that are plugged in, now and after every event of a disk.

        What cannot be asked raises: OSError, ImportError without udev, or anything else that its library does.
        """
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
                yield frozenset(map(_drive, self._usable(context)))
                await news.wait()
        finally:
            loop.remove_reader(monitor.fileno())

    def _usable(self, context: Context) -> list[Device]:
        """Partitions, and disks without any, that came by USB and carry a file system that is read here."""
        system = self._system_disks(context)
        devices = list(context.list_devices(subsystem="block"))
        # Some tools that format a whole disk write a partition over it, too, and both look like a file system.
        split = {_disk(device) for device in devices if device.device_type == "partition"}
        whole = [device for device in devices if device.device_type == "partition" or _disk(device) not in split]
        return [device for device in whole if self._is_usable(device, system)]

    def _is_usable(self, device: Device, system: set[str]) -> bool:
        file_system = device.properties.get("ID_FS_TYPE", "")
        if not file_system or device.device_node is None or _disk(device) in system:
            return False
        if device.find_parent("usb", "usb_device") is None:
            return False
        if device.properties.get("ID_FS_USAGE", "filesystem") != "filesystem" or file_system not in KERNEL_NAMES:
            self._complain(
                f"The USB drive {device.sys_name} carries {file_system}, which the car does not read; "
                "format it as FAT32, exFAT, NTFS or ext4."
            )
            return False
        return True

    def _system_disks(self, context: Context) -> set[str]:
        busy = _mounted(self._mounts)
        devices = context.list_devices(subsystem="block")
        return {_disk(device) for device in devices if _numbers(device) in busy}

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


def _drive(device: Device) -> Drive:
    label, uuid = (device.properties.get(f"ID_FS_{key}", "") for key in ("LABEL", "UUID"))
    label = label if label.isprintable() else ""
    return Drive(device.device_node, device.properties["ID_FS_TYPE"], label, uuid, _plugging(device))


def _plugging(device: Device) -> tuple[str, ...]:
    """Another one each time that the device, or the card in its slot, is plugged in."""
    properties = device.properties
    return (device.device_path, *(properties.get(key, "") for key in ("DISKSEQ", "USEC_INITIALIZED", "ID_FS_UUID")))


def _disk(device: Device) -> str:
    parent = device.find_parent("block", "disk") if device.device_type == "partition" else None
    return str((parent or device).device_path)


def _numbers(device: Device) -> str:
    return f"{device.properties.get('MAJOR')}:{device.properties.get('MINOR')}"


def _mounted(mounts: Path) -> set[str]:
    """The numbers (major:minor) of all devices that the system itself has mounted. proc(5), mountinfo."""
    lines = [line.split() for line in mounts.read_text(errors="replace").splitlines()]
    return {line[2] for line in lines if len(line) > 4 and not _is_guest(line[4])}


def _is_guest(place: str) -> bool:
    return place.startswith(GUESTS) or Path(place).name.startswith(PLACE)
