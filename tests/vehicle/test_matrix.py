"""Every device, broken in every way, while the car drives: the daemon lives, the fault is told in time with its
reason, the wires are at rest where the device is needed, and all is well when it is back.

The devices are the plainest fillings of the rig's shape. Wires that block are in test_safety: that takes a process.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from calibration.calibration import DEFAULT
from drivers.rig import Absent, DeviceError, Lamp, Rig, Wires
from drivers.signals import NEUTRAL, Action, ActuatorCommand, Frame, LidarScan, Observation
from drivers.wifi import Wifi
from tests.air import Air
from tests.conftest import Jump
from tests.vehicle.making import make_store
from vehicle import daemon
from vehicle.car import Car, Refusal
from vehicle.governor import in_this_loop
from vehicle.settings import Drive, Settings

REST: Final = DEFAULT.command(NEUTRAL)
WITHIN: Final = 1.0
WITHIN_NETWORK: Final = 2.0
"""Seconds until a fault is told; the network's, which moves no wheel, takes longer."""
BACK: Final = 2.0
"""Seconds until it is over, once its device is back."""


@dataclass
class Part:
    """A device that does its work, or raises `error`, or does not return while it is `stuck`."""

    error: Exception | None = None
    stuck: asyncio.Event | None = None

    async def work(self) -> None:
        if self.stuck is not None:
            await self.stuck.wait()
        self.check()

    def check(self) -> None:
        if self.error is not None:
            raise self.error

    def mend(self) -> None:
        if self.stuck is not None:
            self.stuck.set()
        self.error = self.stuck = None

    async def close(self) -> None:
        pass


class Eye(Part):
    async def read(self) -> Frame:
        await asyncio.sleep(1 / 30)
        await self.work()
        return Frame(asyncio.get_running_loop().time(), np.zeros((2, 2, 3), np.uint8))


class Scanner(Part):
    async def read(self) -> LidarScan:
        await asyncio.sleep(1 / 10)
        await self.work()
        return LidarScan(asyncio.get_running_loop().time(), np.ones(360, np.float32))


class Gauge(Part):
    async def read(self) -> float | None:
        await self.work()
        return 0.9


class Board(Part):
    async def show(self, lamp: Lamp, colour: tuple[int, int, int]) -> None:
        await self.work()


class Net(Part):
    async def addresses(self) -> list[str]:
        await self.work()
        return ["192.168.7.3"]


class Radio(Part, Air):
    def __init__(self) -> None:
        Part.__init__(self)
        Air.__init__(self)

    async def wifi(self) -> Wifi:
        await self.work()
        return await Air.wifi(self)

    async def close(self) -> None:
        pass


@dataclass
class Servo(Part):
    """The wires; `moved` is when they last carried anything but rest."""

    moved: float = -1.0
    live: bool = False

    def apply(self, command: ActuatorCommand) -> None:
        self.check()
        self.live = True
        if command != REST:
            self.moved = asyncio.get_running_loop().time()

    def release(self) -> None:
        self.live = False


SERVO: list[Servo] = []
"""The wires of the test that runs: an opener finds them by its name alone."""


def open_servo() -> Servo:
    return SERVO[-1]


class Ahead:
    def decide(self, observation: Observation) -> Action:
        return Action(0.0, 0.5)


@dataclass
class Parts:
    """Of a car whose model sees with camera and LiDAR."""

    camera: Eye = field(default_factory=Eye)
    lidar: Scanner = field(default_factory=Scanner)
    battery: Gauge = field(default_factory=Gauge)
    lights: Board = field(default_factory=Board)
    network: Net = field(default_factory=Net)
    wifi: Radio = field(default_factory=Radio)
    wires: Servo = field(default_factory=Servo)

    def rig(self) -> Rig:
        SERVO.append(self.wires)
        wires = Wires("tests.vehicle.test_matrix:open_servo")
        return Rig("bench", (self.camera,), wires, self.lidar, self.battery, self.lights, self.network, self.wifi)


NEEDED: Final = ("camera", "lidar", "wires")
SENSORS: Final = ("camera", "lidar")
DEVICES: Final = ("camera", "lidar", "battery", "lights", "network", "wifi", "wires")


def absent(part: Part) -> str:
    part.error = (
        Absent("It is not found; plug it in.") if isinstance(part, Scanner) else DeviceError("It is not found.")
    )
    return "It is not found"


def forbidden(part: Part) -> str:
    part.error = DeviceError("It is forbidden to this user; add the user to its group.")
    return "forbidden to this user"


def garbage(part: Part) -> str:
    part.error = DeviceError("It sends garbage.") if isinstance(part, Servo) else ValueError("b'\\xff' is no number")
    return "garbage" if isinstance(part, Servo) else r"failed (b'\xff' is no number)"


def gone(part: Part) -> str:
    part.error = DeviceError("It was unplugged; plug it in again.")
    return "It was unplugged"


def blocked(part: Part) -> str:
    part.stuck = asyncio.Event()
    return "sends no " if isinstance(part, Eye | Scanner) else "has not answered for"


BEFORE: Final = (absent, forbidden)
MID_USE: Final = (gone, garbage, blocked)
CASES: Final = [
    (device, harm)
    for device in DEVICES
    for harm in (*BEFORE, *MID_USE)
    if (device, harm) != ("wires", blocked)
]  # fmt: skip


@pytest.mark.parametrize(("device", "harm"), CASES, ids=lambda part: getattr(part, "__name__", part))
def test_a_device_that_breaks_costs_no_more_than_it_must(
    jump: Jump, tmp_path: Path, device: str, harm: Callable[[Part], str]
) -> None:
    store = make_store(tmp_path, one=("FRONT_FACING_CAMERA", "LIDAR"))

    async def live() -> None:
        loop = asyncio.get_running_loop()
        parts = Parts()
        part: Part = getattr(parts, device)
        rig = parts.rig()
        settings = Settings(drive=Drive(max_speed=1.0))
        car = Car(settings, store, DEFAULT, rig.fittings, wireless=rig.wireless, open_policy=lambda _: Ahead())
        await car.load("one")
        reason = harm(part) if harm in BEFORE else ""
        running = asyncio.create_task(daemon.run(rig, car, in_this_loop))
        try:
            if harm in MID_USE:
                await asyncio.sleep(1.0)
                car.start()
                await asyncio.sleep(1.0)
                assert moving()
                reason = harm(part)
                if device == "lights":
                    car.receiving(True)  # something to show
            broken = loop.time()
            while not any(reason in fault for fault in car.snapshot().faults):
                assert loop.time() <= broken + (WITHIN_NETWORK if device in ("network", "wifi") else WITHIN), (
                    f"{car.snapshot().faults} has no {reason!r}"
                )
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.5)  # something to see
            with contextlib.suppress(Refusal):
                car.start()
            await asyncio.sleep(1.0)
            assert not running.done()
            assert car.engaged is moving() is (device not in NEEDED)
            if device in NEEDED and harm in MID_USE:
                assert parts.wires.moved <= broken + 0.5
                assert car.stopped_because
            if device == "wires":
                assert not parts.wires.live
            part.mend()
            await asyncio.sleep(BACK)
            assert car.snapshot().faults == ()
            assert device not in NEEDED or not moving(), "it waits for a start"
            car.start()
            await asyncio.sleep(1.0)
            assert moving()
            assert not running.done()
        finally:
            running.cancel()
            await asyncio.wait([running])
            car.close()
            assert not parts.wires.live

    def moving() -> bool:
        return SERVO[-1].live and SERVO[-1].moved >= asyncio.get_running_loop().time() - 0.05

    jump(live())
