"""USB drives come and go: real uevents and a real sysfs by umockdev."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from drivers.usb import UsbDrives
from tests.drivers.private_bus import DEBIAN_PYTHON


def test_drives_are_told_of_once_a_plugging_and_the_system_s_own_never(tmp_path: Path) -> None:
    if shutil.which("umockdev-wrapper") is None or not Path(DEBIAN_PYTHON).exists():
        pytest.skip("no umockdev here: install Debian's umockdev and gir1.2-umockdev")
    here = Path(__file__)
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parents[2]), packages])}
    if subprocess.run(
        (DEBIAN_PYTHON, "-c", "import gi, pyudev"), env=environment, capture_output=True, check=False
    ).returncode:
        pytest.skip("no gi for Debian's Python here: install Debian's gir1.2-umockdev")
    command = ("umockdev-wrapper", DEBIAN_PYTHON, str(here.with_name("umockdev_drives.py")), str(tmp_path / "mounts"))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "/dev/sdb1 vfat LABEL-sdb1 UUID-sdb1",
        "/dev/sdc1 exfat LABEL-sdc1 UUID-sdc1",
        "/dev/sdc2 ntfs LABEL-sdc2 UUID-sdc2",
        "/dev/sdc3 ext4 LABEL-sdc3 UUID-sdc3",
        "/dev/sdd vfat LABEL-sdd UUID-sdd",
        "/dev/sdd vfat LABEL-sdd UUID-sdd",
    ], done.stderr
    assert "crypto_LUKS, which the car does not read" in done.stderr


async def test_watching_stops_when_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text("")
    looks = UsbDrives(tmp_path / "mounts").watch()
    await anext(looks)
    waiting = asyncio.ensure_future(anext(looks))
    await asyncio.wait([waiting], timeout=0.1)
    waiting.cancel()
    with pytest.raises((asyncio.CancelledError, StopAsyncIteration)):
        await waiting
    await looks.aclose()
