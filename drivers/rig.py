"""The shape of a car: one Protocol a device, and the Rig that holds them.

The real car, the simulated car and a test's car are three fillings of this shape. One contract suite runs over all
of them (`tests/drivers/rig_contract.py`).

    DeviceError (OSError)   a device is absent, forbidden, disconnected or talks nonsense; the message names it
        Absent              it is not plugged in, and the car may do without it
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol, cast

from drivers.signals import ActuatorCommand, Frame, LidarScan

if TYPE_CHECKING:  # those modules need this one
    from drivers.system import System
    from drivers.wifi import Wireless


class DeviceError(OSError):
    """A device does not do its work. One sentence: which one, why, and what to do."""


class Absent(DeviceError):
    """A device that a car may do without is not plugged in; it may still come."""


class Camera(Protocol):
    async def read(self) -> Frame:
        """The next picture, newer than the last one returned; older ones are dropped, never queued.

        Waits as long as no picture comes. Raises DeviceError while the camera is gone; a later call may succeed.
        """
        ...

    async def close(self) -> None:
        """Let go of the device. May be called twice."""
        ...


class Lidar(Protocol):
    async def read(self) -> LidarScan:
        """The next full turn, newer than the last one returned. Waits and raises as Camera.read does."""
        ...

    async def close(self) -> None: ...


class Actuators(Protocol):
    """The wires of servo and speed controller. Plain calls, no event loop: the governor is the only caller."""

    def apply(self, command: ActuatorCommand) -> None:
        """Put both pulses on the wires. Raises DeviceError when they did not get there."""
        ...

    def release(self) -> None:
        """Take the drive off the wires: no pulses, or the speed controller disabled. May be called twice."""
        ...


class Battery(Protocol):
    async def read(self) -> float | None:
        """Charge of the drive battery, 0..1, or None while no battery is connected. Raises DeviceError."""
        ...


class Lamp(Enum):
    POWER = "power"
    WIFI = "wifi"
    VEHICLE = "vehicle"
    TAIL = "tail"


class Lights(Protocol):
    async def show(self, lamp: Lamp, colour: tuple[int, int, int]) -> None:
        """Light one lamp, RGB 0..255; a lamp of fewer colours shows the nearest. Raises DeviceError."""
        ...


class Network(Protocol):
    async def addresses(self) -> list[str]:
        """The addresses under which the car can be reached now. Raises DeviceError."""
        ...


@dataclass(frozen=True, slots=True)
class Wires:
    """The address of a car's actuators, for whichever process is to hold them.

    `opener` is written `module:function`; the function takes `arguments`, all strings, and returns Actuators.
    """

    opener: str
    arguments: tuple[str, ...] = ()

    def open(self) -> Actuators:
        """Raises DeviceError when the opener does not exist or the device does not."""
        module, _, function = self.opener.partition(":")
        try:
            opener = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise DeviceError(f"There is no actuator driver {self.opener!r}: {error}.") from error
        return cast(Actuators, opener(*self.arguments))


@dataclass(frozen=True, slots=True)
class Options:
    """What a settings file may say about a car's devices; an empty text leaves it to the car to find its own."""

    left_camera: str = ""
    """Where the left camera, or the only one, is plugged in: a path below /dev/v4l/by-path or in sysfs, or "csi:0"."""
    right_camera: str = ""
    lidar: str = ""
    """The LiDAR's serial port, such as /dev/ttyUSB0."""
    gauge: str = ""
    """The battery's gauge: "ina219" or "ina226", with "@0x45" behind it where it does not live at 0x41, or "none"."""


@dataclass(frozen=True, slots=True)
class Fittings:
    """What a car has or may have, whether or not it is plugged in and works at the moment."""

    name: str = "car"
    cameras: int = 1
    lidar: bool = False
    battery: bool = False
    lights: bool = False


@dataclass(frozen=True, slots=True)
class Rig:
    """One car's devices. None says that this car has no such device, which is no fault."""

    name: str
    cameras: tuple[Camera, ...]
    wires: Wires
    lidar: Lidar | None = None
    battery: Battery | None = None
    lights: Lights | None = None
    network: Network | None = None
    wireless: Wireless | None = None
    """The network again, where the car can choose one."""
    system: System | None = None
    """The computer, where the car may change it."""
    drives: bool = False
    """Whether USB drives are plugged into this car, which does then what they ask for."""

    @property
    def fittings(self) -> Fittings:
        devices = (self.lidar, self.battery, self.lights)
        return Fittings(self.name, len(self.cameras), *(device is not None for device in devices))

    async def close(self) -> None:
        """Close all, last first. The wires belong to the governor, which releases them itself."""
        for device in (self.system, self.wireless, self.lidar, *reversed(self.cameras)):
            if device is not None:
                await device.close()
