"""Real processes, real signals, pulses read back from their file: what the wires do when a process dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from calibration.calibration import DEFAULT
from drivers.pwm_pca9685 import Pca9685Wires
from drivers.rig import DeviceError, Fittings, Rig, Wires
from drivers.signals import NEUTRAL, ActuatorCommand
from sim_stub.wires import Tape
from tests.drivers.i2c_model import Pca9685Model, Wire
from vehicle import daemon
from vehicle.car import Car
from vehicle.gate import DriveMode
from vehicle.governor import Act, Doorbell, GovernorLost, waiting
from vehicle.mailbox import Mailbox, Orders
from vehicle.models import ModelStore
from vehicle.settings import Settings

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
            report = mailbox.report()
            assert report is not None
            assert words in report.failure
            assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
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


class SlowWires:
    """On a bus that sticks while there is a file `stuck`: each call then sleeps for a second and fails."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def apply(self, command: ActuatorCommand) -> None:
        self._wait()
        (self._folder / "live").touch()

    def release(self) -> None:
        self._wait()
        (self._folder / "live").unlink(missing_ok=True)

    def _wait(self) -> None:
        if (self._folder / "stuck").exists():
            time.sleep(1.0)
            raise DeviceError("The PWM chip does not obey (Connection timed out); check its plug.")


def open_slow(folder: str) -> SlowWires:
    return SlowWires(Path(folder))


class Watchdog:
    """The service manager's ear: when it was fed."""

    def __init__(self, path: Path) -> None:
        self.meals: list[float] = []
        self._ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ear.bind(str(path))
        self._ear.setblocking(False)
        asyncio.get_running_loop().add_reader(self._ear, self._hear)

    def _hear(self) -> None:
        if self._ear.recv(100) == b"WATCHDOG=1":
            self.meals.append(time.monotonic())

    def is_fed(self, times: int) -> bool:
        return len(self.meals) >= times

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._ear)
        self._ear.close()


async def eventually(condition: Callable[[], bool]) -> float:
    """Seconds until it was so."""
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)
    return time.monotonic() - began


@contextlib.asynccontextmanager
async def on_a_slow_bus(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Car, asyncio.Task[None]]]:
    """A daemon that drives by hand, with its governor in a process of its own."""
    rig = Rig("bench", (), Wires("tests.vehicle.test_safety:open_slow", (str(folder),)))
    car = Car(Settings(), ModelStore(folder / "state"), DEFAULT, Fittings(cameras=0))
    monkeypatch.setenv("NOTIFY_SOCKET", str(folder / "notify"))
    task = asyncio.create_task(daemon.run(rig, car))
    try:
        await eventually(lambda: (folder / "live").exists())
        car.select(DriveMode.MANUAL)
        car.start()
        yield car, task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ExceptionGroup):
            await task
        car.close()


async def test_a_bus_that_is_stuck_in_the_kernel_is_a_fault_and_neither_a_crash_nor_a_hungry_watchdog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watchdog = Watchdog(tmp_path / "notify")
    async with on_a_slow_bus(tmp_path, monkeypatch) as (car, task):
        for _ in range(2):
            car.start()
            (tmp_path / "stuck").touch()
            assert await eventually(lambda: "bus is stuck" in " ".join(car.snapshot().faults)) < 1.0
            assert not car.engaged
            await eventually(lambda: "Connection timed out" in " ".join(car.snapshot().faults))
            enough = len(watchdog.meals) + 20
            await eventually(partial(watchdog.is_fed, enough))
            assert car.snapshot().faults
            (tmp_path / "stuck").unlink()
            await eventually(lambda: car.snapshot().faults == () and (tmp_path / "live").exists())
        assert not task.done()
    watchdog.close()
    assert max(np.diff(watchdog.meals)) < 0.8, "systemd allows a second"


async def test_a_governor_that_is_stopped_inside_a_stuck_call_is_not_taken_for_one_that_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_a_slow_bus(tmp_path, monkeypatch) as (car, task):
        (tmp_path / "stuck").touch()
        await eventually(lambda: waiting(car.mailbox, time.monotonic()) > 0.1)
        inside = car.mailbox.inside()
        assert inside is not None
        os.kill(inside[1], signal.SIGSTOP)
        with pytest.raises(ExceptionGroup) as caught:
            await task
        assert caught.group_contains(GovernorLost)


def test_a_bus_that_times_out_costs_the_governor_few_ticks_and_it_tries_again(tmp_path: Path) -> None:
    wire = Wire({0x40: Pca9685Model()}, stuck=True, patience=0.03)
    mailbox = Mailbox.create()
    mailbox.post(Orders(DriveMode.MANUAL, False, {}, DEFAULT))
    act = Act(mailbox, Pca9685Wires(wire.open), time.monotonic)
    began, transfers = time.monotonic(), wire.transfers
    act.tick()
    report = mailbox.report()
    assert report is not None
    assert "PWM chip (I2C address 0x40) does not obey (Connection timed out)" in report.failure
    assert time.monotonic() - began < 0.2
    assert wire.transfers == transfers + 3, "one for the command, one for each channel's release"
    for _ in range(100):
        act.tick()
    assert wire.transfers == transfers + 3
    wire.stuck = False
    until(lambda: act.tick() is None and mailbox.report().failure == "")  # type: ignore[union-attr,func-returns-value]
    assert time.monotonic() - began < 1.0
    mailbox.close()
