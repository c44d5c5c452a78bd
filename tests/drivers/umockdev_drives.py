"""A machine whose USB drives come and go: real uevents and a real sysfs by umockdev, watched by UsbDrives.

Run under umockdev-wrapper by Debian's Python, outside .venv; prints a line for each drive that came.
"""

# mypy: disable-error-code="import-not-found, import-untyped, misc, no-any-return"

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import gi

gi.require_version("UMockdev", "1.0")
from gi.repository import UMockdev  # noqa: E402

from drivers.mounts import Drive  # noqa: E402
from drivers.usb import UsbDrives  # noqa: E402

PATIENCE = 10.0
USB = ["DEVTYPE", "usb_device", "ID_BUS", "usb"]
MOUNTS = Path(sys.argv[-1])


class Machine:
    def __init__(self) -> None:
        self.testbed = UMockdev.Testbed.new()
        self.plugged = 0

    def plug(self, name: str, *partitions: str, bus: str = "usb", number: int = 0, whole: str = "") -> list[str]:
        """A disk; of each partition, and of the `whole` disk, the file system. Returns the paths in sysfs."""
        self.plugged += 1
        parent = None
        if bus == "usb":
            parent = self.testbed.add_device("usb", f"usb{self.plugged}", None, [], USB)
        disk = self._block(name, "disk", whole, parent, number)
        return [
            disk,
            *(self._block(f"{name}{n}", "partition", kind, disk, number + n) for n, kind in enumerate(partitions, 1)),
        ]

    def _block(self, name: str, kind: str, file_system: str, parent: str | None, minor: int) -> str:
        properties = ["DEVTYPE", kind, "DEVNAME", f"/dev/{name}", "MAJOR", "8", "MINOR", str(minor)]
        properties += ["DISKSEQ", str(self.plugged)]
        if file_system:
            usage = "crypto" if file_system == "crypto_LUKS" else "filesystem"
            properties += ["ID_FS_TYPE", file_system, "ID_FS_USAGE", usage, "ID_FS_LABEL", f"LABEL-{name}"]
            properties += ["ID_FS_UUID", f"UUID-{name}"]
        return self.testbed.add_device("block", name, parent, [], properties)

    def unplug(self, paths: list[str]) -> None:
        for path in reversed(paths):
            self.testbed.uevent(path, "remove")
            self.testbed.remove_device(path)


class Diary:
    def __init__(self) -> None:
        self.drives: list[Drive] = []
        self.present: frozenset[Drive] = frozenset()
        self.looked = asyncio.Event()

    async def keep(self, looks: AsyncIterator[frozenset[Drive]]) -> None:
        async for present in looks:
            for drive in sorted(present - self.present, key=lambda drive: drive.node):
                self.drives.append(drive)
                print(drive.node, drive.file_system, drive.label, drive.uuid, flush=True)
            self.present = present
            self.looked.set()

    async def sees(self, *nodes: str) -> None:
        while {drive.node for drive in self.present} != {f"/dev/{node}" for node in nodes}:
            self.looked.clear()
            await self.looked.wait()

    async def holds(self, count: int) -> None:
        while len(self.drives) < count:
            self.looked.clear()
            await self.looked.wait()


async def main(machine: Machine, diary: Diary, mounts: Path) -> None:
    machine.plug("sda", "ext4", "vfat", number=0)  # the system runs from it, by USB
    machine.plug("mmcblk0", "vfat", bus="mmc", number=64)
    machine.plug("sdb", "vfat", number=16, whole="vfat")  # as mkfs.fat leaves a whole disk
    machine.plug("sdz", "crypto_LUKS", "apfs", number=240)
    odd = ["DEVTYPE", "disk", "MAJOR", "8", "ID_FS_TYPE", "vfat", "ID_FS_USAGE", "filesystem"]
    machine.testbed.add_device("block", "odd", machine.testbed.add_device("usb", "usb99", None, [], USB), [], odd)
    watching = asyncio.create_task(diary.keep(UsbDrives(mounts).watch()))
    await diary.holds(1)
    first = machine.plug("sdc", "exfat", "ntfs", "ext4", number=32)
    await diary.holds(4)
    floppy = machine.plug("sdd", whole="vfat", number=48)
    await diary.holds(5)
    machine.testbed.uevent(floppy[0], "change")
    machine.unplug(first)
    machine.testbed.set_property(floppy[0], "DISKSEQ", "99")  # another card in the same reader
    machine.testbed.uevent(floppy[0], "change")
    await diary.holds(6)
    await diary.sees("sdb1", "sdd")
    watching.cancel()
    await asyncio.wait([watching])


if __name__ == "__main__":
    MOUNTS.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 0 8:17 / /media/car/STICK rw - vfat /dev/sdb1 rw\n"
        "3 0 8:33 / /tmp/hotlap-drive-x rw - exfat /dev/sdc1 rw\n"
    )
    asyncio.run(asyncio.wait_for(main(Machine(), Diary(), MOUNTS), PATIENCE))
