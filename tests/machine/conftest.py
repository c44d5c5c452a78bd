"""One virtual car for all the tests of this folder, made and switched on for the first that needs it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers.rplidar import Model
from tests.machine.machine import Machine

HOME = Path(__file__).parents[2]
MADE = HOME / "build" / "machine"
NO_DEBIAN = 3
PASSWORD = "three odd walruses"
SETTINGS = """
[devices]
left_camera = "/dev/video0"
lidar = "/dev/ttyUSB0"
"""
SLOWLY = 4
"""Pictures and turns a second: all that the emulation has to do takes time from the tests."""
# Two emulated processors that share two real ones with the rest of the tests are slower than any car.
SLOW = """[Service]
WatchdogSec=20
TimeoutStartSec=180
TimeoutStopSec=60
"""


@pytest.fixture(scope="session")
def made() -> Path:
    """What scripts/machine left."""
    for program in ("qemu-system-x86_64", "debootstrap", "mke2fs"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if os.geteuid() != 0 or platform.machine() != "x86_64":
        pytest.skip("only root can put a Debian into a folder, and this one is for x86-64")
    done = subprocess.run((HOME / "scripts/machine", MADE), capture_output=True, text=True, check=False)
    if done.returncode == NO_DEBIAN:
        pytest.skip(f"Debian's packages are out of reach: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stdout + done.stderr
    return MADE


@pytest.fixture(scope="session")
def lidar() -> Iterator[Model]:
    """Walls on all sides, a metre away."""
    model = Model(lambda _: 1.0, rate=SLOWLY)
    yield model
    model.unplug()


@pytest.fixture(scope="session")
def machine(made: Path, lidar: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    serial = ("-chardev", f"serial,id=lidar,path={lidar.path}", "-device", "usb-serial,chardev=lidar,bus=usb.0")
    car = Machine(made, tmp_path_factory.mktemp("machine"), *serial)
    try:
        car.run(
            """mkdir -p /etc/systemd/system/hotlap-car.service.d
            cat >/etc/systemd/system/hotlap-car.service.d/slow.conf""",
            SLOW.encode(),
        )
        car.run(
            """mkdir -p /etc/systemd/system/hotlap-ssh@.service.d
            printf '[Service]\\nTimeoutSec=120\\n' >/etc/systemd/system/hotlap-ssh@.service.d/slow.conf"""
        )
        car.run("cat >>/etc/hotlap/hotlap.toml", SETTINGS.encode())
        car.run("cat >/usr/local/bin/clubhouse; chmod +x /usr/local/bin/clubhouse", _read("clubhouse"))
        car.run("cat >/usr/local/lib/visitor.py", _read("visitor.py"))
        car.until("systemctl is-active hotlap-car")
        first = car.run("/opt/hotlap/venv/bin/hotlap-car reset-password").split()[-1]
        car.run(f"v4l2-ctl -d /dev/video0 --set-parm={SLOWLY}")
        car.run("systemctl daemon-reload; systemctl restart hotlap-car")
        car.until("systemctl is-active hotlap-car")
        change = json.dumps(("POST", "/api/v1/password", {"old": first, "new": PASSWORD})).encode()
        car.run(f"/opt/hotlap/venv/bin/python -I /usr/local/lib/visitor.py {first}", change)
        yield car
    finally:
        car.close()


@pytest.fixture(scope="session")
def password(machine: Machine) -> str:
    """The console's, as its owner has chosen it."""
    return PASSWORD


def _read(name: str) -> bytes:
    return (HOME / "tests/machine" / name).read_bytes()
