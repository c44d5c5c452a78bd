"""The shape of a car: wires are found by their address, and devices are closed in reverse."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from drivers.rig import DeviceError, Rig, Wires
from drivers.signals import ActuatorCommand, Frame, LidarScan


@dataclass
class Closes:
    """A sensor that only notes when it is closed."""

    name: str
    closed: list[str]

    async def close(self) -> None:
        self.closed.append(self.name)


class Eye(Closes):
    async def read(self) -> Frame:
        raise NotImplementedError


class Laser(Closes):
    async def read(self) -> LidarScan:
        raise NotImplementedError


@dataclass
class Pair:
    """Wires that remember what they were opened with."""

    arguments: tuple[str, ...]
    applied: list[ActuatorCommand] = field(default_factory=list)

    def apply(self, command: ActuatorCommand) -> None:
        self.applied.append(command)

    def release(self) -> None:
        self.applied.clear()


def open_pair(*arguments: str) -> Pair:
    return Pair(arguments)


def absent(*_: str) -> Pair:
    raise DeviceError("The wires are not there.")


def test_an_opener_gets_its_arguments() -> None:
    wires = Wires(f"{__name__}:open_pair", ("one", "two"))
    opened = wires.open()
    assert opened.arguments == ("one", "two")  # type: ignore[attr-defined]
    assert wires.open() is not opened


@pytest.mark.parametrize(
    "opener", ["", ":", "drivers.nothing:open", "drivers.rig:nothing", "drivers.rig", "drivers.rig:", "..rig:open"]
)
def test_an_opener_that_is_not_there_is_named(opener: str) -> None:
    with pytest.raises(DeviceError, match=r"There is no actuator driver .*") as error:
        Wires(opener).open()
    assert repr(opener) in str(error.value)
    assert isinstance(error.value, OSError)


def test_a_device_that_is_not_there_says_so_itself() -> None:
    with pytest.raises(DeviceError, match=r"The wires are not there\."):
        Wires(f"{__name__}:absent").open()


def test_sensors_are_closed_last_first() -> None:
    closed: list[str] = []
    cameras = (Eye("left", closed), Eye("right", closed))
    asyncio.run(Rig("car", cameras, Wires("none:none"), Laser("laser", closed)).close())
    asyncio.run(Rig("car", cameras[:1], Wires("none:none")).close())
    assert closed == ["laser", "right", "left", "left"]
