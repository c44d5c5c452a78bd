"""Real processes, real signals, pulses read back from their file: what the wires do when a process dies."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from calibration.calibration import DEFAULT
from drivers.rig import Wires
from drivers.signals import NEUTRAL
from sim_stub.wires import Tape
from vehicle.governor import Doorbell
from vehicle.mailbox import Mailbox

REST = DEFAULT.command(NEUTRAL)
PATIENCE = 20.0


@dataclass
class Drive:
    """A simulated car that drives, in a process of its own, with its governor in another."""

    process: subprocess.Popen[str]
    tape: Tape

    @property
    def governor(self) -> int:
        """Process id of the governor: the daemon's child that runs it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return next(
            int(child) for child in children if b"vehicle.governor" in Path(f"/proc/{child}/cmdline").read_bytes()
        )

    def moving(self) -> bool:
        latest = self.tape.latest()
        return latest is not None and latest.live and latest.command.throttle_ns != REST.throttle_ns

    def last_moving(self) -> float:
        return max(pulse.t for pulse in self.tape.read(0)[1] if pulse.live and pulse.command != REST)


@pytest.fixture
def drive(state: Path, tmp_path: Path) -> Iterator[Drive]:
    wires = tmp_path / "wires"
    tape = Tape(wires)
    command = [sys.executable, "-m", "sim_stub", "--headless", "--laps", "1000", "--track", "Oval_track"]
    command += ["--state", str(state), "--wires", str(wires)]
    with subprocess.Popen(command, text=True, stderr=subprocess.PIPE) as process:
        drive = Drive(process, tape)
        try:
            until(drive.moving)
            yield drive
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.kill()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def at_rest(drive: Drive) -> bool:
    latest = drive.tape.latest()
    return latest is not None and latest.command == REST and not latest.live


def test_a_stopped_daemon_means_neutral_within_half_a_second(drive: Drive) -> None:
    drive.process.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    until(lambda: not drive.moving())
    assert drive.last_moving() <= stopped + 0.5
    drive.process.send_signal(signal.SIGCONT)
    assert drive.governor


def test_a_killed_daemon_means_neutral_and_released_wires_and_no_governor_left(drive: Drive) -> None:
    governor_pid = drive.governor
    drive.process.kill()
    killed = time.monotonic()
    until(lambda: at_rest(drive))
    assert drive.last_moving() <= killed + 0.5
    until(lambda: gone(governor_pid))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_ordinary_end_releases_the_wires(drive: Drive, number: signal.Signals) -> None:
    governor_pid = drive.governor
    drive.process.send_signal(number)
    assert drive.process.wait(PATIENCE) == 1, "the laps were not driven"
    assert at_rest(drive)
    assert gone(governor_pid)


def test_a_killed_governor_ends_the_daemon_with_the_wires_released(drive: Drive) -> None:
    os.kill(drive.governor, signal.SIGKILL)
    assert drive.process.wait(PATIENCE) == 3
    assert at_rest(drive)
    assert drive.process.stderr is not None
    assert "The governor ended by itself" in drive.process.stderr.read()


def test_a_governor_that_hangs_ends_the_daemon_with_the_wires_released(drive: Drive) -> None:
    governor_pid = drive.governor
    os.kill(governor_pid, signal.SIGSTOP)
    stopped = time.monotonic()
    assert drive.process.wait(PATIENCE) == 3
    assert at_rest(drive)
    assert gone(governor_pid)
    latest = drive.tape.latest()
    assert latest is not None
    assert latest.t <= stopped + 2.0


def test_a_terminated_governor_releases_the_wires(drive: Drive) -> None:
    os.kill(drive.governor, signal.SIGTERM)
    assert drive.process.wait(PATIENCE) == 3
    assert at_rest(drive)


def test_when_both_are_killed_the_units_release_command_writes_neutral(drive: Drive, tmp_path: Path) -> None:
    governor_pid = drive.governor
    os.kill(governor_pid, signal.SIGSTOP)
    drive.process.kill()
    os.kill(governor_pid, signal.SIGKILL)
    until(lambda: gone(governor_pid))
    assert drive.moving(), "nobody is left who could have put the wires to rest"
    (tmp_path / "bench_car.py").write_text(
        "from drivers.rig import Rig, Wires\n"
        f"WIRES = Wires('sim_stub.wires:open_wires', ({str(tmp_path / 'wires')!r},))\n"
        "def open_rig(options): return Rig('bench', (), WIRES)\n"
    )
    (tmp_path / "hotlap.toml").write_text(f"[car]\nrig = 'bench_car:open_rig'\nstate = {str(tmp_path)!r}\n")
    path = os.pathsep.join([str(tmp_path), str(Path.cwd()), *sys.path])
    command = [sys.executable, "-m", "vehicle", "release", "--settings", str(tmp_path / "hotlap.toml")]
    subprocess.run(command, check=True, timeout=PATIENCE, env={**os.environ, "PYTHONPATH": path})
    assert at_rest(drive)


def test_the_unit_releases_the_wires_with_that_command_and_is_watched() -> None:
    unit = (Path(__file__).parents[2] / "systemd" / "hotlap-car.service").read_text()
    assert "ExecStopPost=/opt/hotlap/venv/bin/hotlap-car release\n" in unit
    assert "WatchdogSec=" in unit


def test_a_governor_without_orders_or_wires_says_so_and_moves_nothing(tmp_path: Path) -> None:
    mailbox = Mailbox.create()
    bell = Doorbell()
    try:
        wires = Wires("sim_stub.wires:open_wires", (str(tmp_path / "no" / "wires"),))
        for opener, words in ((wires.opener, "cannot be opened"), ("nobody:home", "no actuator driver")):
            command = [sys.executable, "-m", "vehicle.governor", str(mailbox.fd), str(bell.fd), "0", opener]
            done = subprocess.run(
                [*command, *wires.arguments],
                pass_fds=(mailbox.fd, bell.fd),
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 1
            assert words in done.stderr
            assert "Traceback" not in done.stderr
    finally:
        bell.close()
        mailbox.close()


def test_the_watchdog_is_fed_by_the_governor(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE)
        wires = Wires("sim_stub.wires:open_wires", (str(tmp_path / "other-wires"),))
        script = (
            "import asyncio, sys\n"
            "from calibration.calibration import DEFAULT\n"
            "from drivers.rig import Wires\n"
            "from vehicle.gate import DriveMode\n"
            "from vehicle.governor import Doorbell, Mailbox, in_own_process\n"
            "from vehicle.mailbox import Orders\n"
            "mailbox = Mailbox.create()\n"
            "mailbox.post(Orders(DriveMode.MANUAL, False, {}, DEFAULT))\n"
            "asyncio.run(in_own_process(Wires(sys.argv[1], (sys.argv[2],)), mailbox, Doorbell()))\n"
        )
        command = [sys.executable, "-c", script, wires.opener, *wires.arguments]
        with subprocess.Popen(command, env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}) as process:
            try:
                assert {manager.recv(100) for _ in range(4)} == {b"WATCHDOG=1"}
            finally:
                process.kill()
