"""A D-Bus of the tests' own, and the services that python-dbusmock plays on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

DEBIAN_PYTHON = "/usr/bin/python3"

CONFIGURATION = """<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
  </policy>
</busconfig>
"""


@contextmanager
def bus_folder() -> Iterator[Path]:
    """Where a bus may have its socket: pytest's own folders have names too long for one."""
    with tempfile.TemporaryDirectory(prefix="bus-") as folder:
        yield Path(folder)


@contextmanager
def private_bus(folder: Path) -> Iterator[str]:
    """The address of a bus that nobody else is on, always the same of one folder. Skips without dbus-daemon."""
    if shutil.which("dbus-daemon") is None:
        pytest.skip("no dbus-daemon here: install Debian's dbus")
    configuration, socket = folder / "bus.conf", folder / "socket"
    configuration.write_text(CONFIGURATION.format(socket=socket))
    command = ("dbus-daemon", f"--config-file={configuration}", "--nofork", "--nopidfile", "--print-address")
    with running(*command, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline()
        yield f"unix:path={socket}"
    socket.unlink()


@contextmanager
def networkmanager(address: str) -> Iterator[subprocess.Popen[bytes]]:
    """NetworkManager on that bus, by a template that also says no. Skips without python-dbusmock."""
    have = subprocess.run((DEBIAN_PYTHON, "-c", "import dbusmock, gi"), capture_output=True, check=False)
    if have.returncode:
        pytest.skip("no python-dbusmock here: install Debian's python3-dbusmock")
    template = str(Path(__file__).with_name("nm_template.py"))
    command = (DEBIAN_PYTHON, "-m", "dbusmock", "--system", "--template", template)
    with running(*command, DBUS_SYSTEM_BUS_ADDRESS=address) as mock:
        yield mock


@contextmanager
def running(*command: str, stdout: int = subprocess.DEVNULL, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command, until the end of the block."""
    environment = {**os.environ, **environment}
    with subprocess.Popen(command, env=environment, stdout=stdout, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()
