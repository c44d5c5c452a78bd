"""About: what this car and its computer are."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from inference.policy import runtime_version
from vehicle.car import Car


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes."""

    free: int
    total: int


@dataclass(frozen=True, slots=True)
class Update:
    """How the software is kept current."""

    state: str
    text: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """SHA-256 of the console's certificate, by which a careful visitor knows it."""

    fingerprint: str


@dataclass(frozen=True, slots=True)
class About:
    """`memory` is in bytes; what cannot be found out is an empty string, or 0."""

    hotlap: str
    hardware: str
    os: str
    openvino: str
    python: str
    processor: str
    memory: int
    disk: Disk
    cameras: int
    lidar: bool
    battery: bool
    update: Update
    certificate: Certificate


def about(car: Car, fingerprint: str) -> About:
    """Reads a few small files: call it from a thread."""
    disk = shutil.disk_usage(car.store.root)
    fitted = car.fittings
    return About(
        hotlap=_own_version(),
        hardware=", ".join(part for part in (fitted.name, _machine()) if part),
        os=_os(),
        openvino=runtime_version(),
        python=platform.python_version(),
        processor=_processor(),
        memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        disk=Disk(disk.free, disk.total),
        cameras=fitted.cameras,
        lidar=fitted.lidar,
        battery=fitted.battery,
        update=Update("unmanaged", "No updater is set up on this car; install new software by hand."),
        certificate=Certificate(fingerprint),
    )


def _own_version() -> str:
    try:
        return version("hotlap")
    except PackageNotFoundError:
        return ""


def _machine() -> str:
    for place in ("/proc/device-tree/model", "/sys/class/dmi/id/product_name"):
        if name := _read(place):
            return name
    return ""


def _os() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return f"{platform.system()} {platform.release()}"


def _processor() -> str:
    names = [
        line.partition(":")[2].strip() for line in _read("/proc/cpuinfo").splitlines() if line.startswith("model name")
    ]
    return names[0] if names else platform.machine()


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace").strip("\0\n ")
    except OSError:
        return ""
