"""The daemon's log in the journal: programs run where /run/systemd/journal/socket is the test's own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEBIAN = Path("/usr/lib/python3/dist-packages/systemd")
MOUNT = """mount -t tmpfs none /run
mkdir -p /run/systemd/journal
touch /run/systemd/journal/socket
mount --bind "$0" /run/systemd/journal/socket
exec "$@"
"""
PATIENCE = 20.0


class Journal:
    """Plays journald: programs run in here find its socket, and entries come out as they arrived."""

    def __init__(self, folder: Path, ear: socket.socket) -> None:
        self._ear, self._socket = ear, folder / "socket"
        ear.bind(str(self._socket))
        self._packages = folder / "packages"
        self._packages.mkdir()
        (self._packages / "systemd").symlink_to(DEBIAN)  # as scripts/install-car puts it into the car's venv
        # What systemd connects a service's stderr with.
        self.stderr, self._lines = socket.socketpair()

    def close(self) -> None:
        self.stderr.close()
        self._lines.close()

    @contextmanager
    def runs(self, *arguments: str, stream: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """Python with these arguments, its stderr connected to the journal; `stream` is what it is told of that."""
        found = os.fstat(self.stderr.fileno())
        environment = {
            **os.environ,
            "JOURNAL_STREAM": stream or f"{found.st_dev}:{found.st_ino}",
            "PYTHONPATH": str(self._packages),
        }
        command = ("unshare", "-m", "sh", "-ec", MOUNT, str(self._socket), sys.executable, *arguments)
        with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=self.stderr.fileno()) as process:
            try:
                yield process
            finally:
                process.kill()

    def next(self) -> dict[str, str]:
        return parse(self._ear.recv(1 << 18))

    def all(self) -> list[dict[str, str]]:
        """Whatever lies there and was not asked for."""
        entries = []
        self._ear.setblocking(False)
        try:
            while True:
                entries.append(self.next())
        except BlockingIOError:
            return entries

    def lines(self) -> str:
        """What was said on stderr."""
        self._lines.setblocking(False)
        try:
            return self._lines.recv(1 << 16).decode()
        except BlockingIOError:
            return ""


def parse(sent: bytes) -> dict[str, str]:
    """The fields of an entry in the journal's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""
    fields = {}
    while sent:
        line, sent = sent.split(b"\n", 1)
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(sent[:8], "little")
            value, end, sent = sent[8 : 8 + size], sent[8 + size : 9 + size], sent[9 + size :]
            assert end == b"\n"
        assert name.decode() not in fields
        fields[name.decode()] = value.decode()
    return fields


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    if not DEBIAN.exists():
        pytest.skip("no systemd-python here: install Debian's python3-systemd")
    probe = (sys.executable, "-I", "-c", f"import sys; sys.path.append({str(DEBIAN.parent)!r}); import systemd.journal")
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("Debian's python3-systemd was built for another Python")
    command = ("unshare", "-m", "mount", "-t", "tmpfs", "none", "/run")
    if not shutil.which("unshare") or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("the journal's socket is replaced by root with unshare and mount, and that is not to be had")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.settimeout(PATIENCE)
        journal = Journal(tmp_path, ear)
        yield journal
        journal.close()


def test_the_daemons_faults_come_into_the_journal_with_priority_and_device(journal: Journal, tmp_path: Path) -> None:
    (tmp_path / "hotlap.toml").write_text(
        f'[car]\nrig = "drivers.deepracer:open_rig"\nstate = "{tmp_path / "state"}"\n[console]\nport = 0\n'
    )
    with journal.runs("-m", "vehicle", "run", "--settings", str(tmp_path / "hotlap.toml")) as process:
        entry = journal.next()
        while entry.get("HOTLAP_DEVICE") != "wires":
            assert {"PRIORITY", "LOGGER", "CODE_FILE", "CODE_LINE"} <= set(entry)
            entry = journal.next()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert entry["MESSAGE"].startswith("There is no PWM chip behind ")
    assert (entry["PRIORITY"], entry["SYSLOG_IDENTIFIER"], entry["LOGGER"]) == ("4", "hotlap-car", "vehicle.car")
    assert (entry["CODE_FILE"], entry["CODE_FUNC"]) == (str(ROOT / "vehicle" / "car.py"), "fault")
    assert journal.lines() == "", "nothing is said twice"


SAYING = """
import logging
from vehicle import journal
journal.set_up("hotlap-car")
log = logging.getLogger("voice")
log.debug("Hm")
log.info("All is well")
log.warning("A password of %d letters, such as %.3s", 19, "three odd walruses")
log.error("Two\\nlines", extra={"HOTLAP_DEVICE": "second camera"})
try:
    raise ValueError("a bad day")
except ValueError:
    log.critical("It fell", exc_info=True)
"""


def test_an_entry_has_its_levels_priority_and_no_more_than_its_message_shows(journal: Journal) -> None:
    with journal.runs("-c", SAYING) as process:
        assert process.wait(PATIENCE) == 0
    entries = journal.all()
    assert [(entry["PRIORITY"], entry["MESSAGE"].partition("\n")[0]) for entry in entries] == [
        ("6", "All is well"),
        ("4", "A password of 19 letters, such as thr"),
        ("3", "Two"),
        ("2", "It fell"),
    ]
    assert "odd walruses" not in str(entries)
    assert [entry.get("HOTLAP_DEVICE") for entry in entries] == [None, None, "second camera", None]
    assert entries[2]["MESSAGE"] == "Two\nlines"
    assert entries[3]["MESSAGE"].endswith("ValueError: a bad day")
    assert {entry["LOGGER"] for entry in entries} == {"voice"}
    assert all(name.isupper() for entry in entries for name in entry), "journald would drop any other field"


def test_whose_stderr_was_led_elsewhere_says_lines_there(journal: Journal) -> None:
    with journal.runs("-c", SAYING, stream="1:2") as process:
        assert process.wait(PATIENCE) == 0
    assert journal.all() == []
    assert journal.lines().startswith("INFO voice: All is well\nWARNING voice: A password of 19 letters")


def test_without_the_package_there_are_lines(tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("w+") as stderr:
        found = os.fstat(stderr.fileno())
        stream = f"{found.st_dev}:{found.st_ino}"
        script = f"import sys\nsys.modules['systemd.journal'] = None\n{SAYING}"
        environment = {**os.environ, "JOURNAL_STREAM": stream}
        command = (sys.executable, "-c", script)
        subprocess.run(command, check=True, cwd=ROOT, env=environment, stderr=stderr, timeout=PATIENCE)
        stderr.seek(0)
        assert stderr.readline() == "INFO voice: All is well\n"
