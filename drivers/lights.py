"""Status lamps and tail light: how they are lit, and what they say, which is the manual's table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from drivers.blocking import Blocking
from drivers.gpio import Outputs
from drivers.i2c import OpenBus
from drivers.pwm_pca9685 import Chip
from drivers.pwm_sysfs import TAIL, Channel
from drivers.rig import Lamp

RGB: TypeAlias = tuple[int, int, int]

STOCK_LINES: Final = {Lamp.WIFI: (14, 13, 3), Lamp.VEHICLE: (12, 11, 9), Lamp.POWER: (16, 23, 24)}
"""Red, green and blue of each status lamp: lines of the stock GPIO chip, high when lit."""
FULL_NS: Final = 39_215
"""Nanoseconds of pulse for each of 255 steps of the tail light: half of the period is its full light."""
PATIENCE: Final = 0.5
"""Seconds that a lamp may take."""

OFF: Final = (0, 0, 0)
RED: Final = (255, 0, 0)
BLUE: Final = (0, 0, 255)
YELLOW: Final = (255, 255, 0)
FAST: Final = 0.2
SLOW: Final = 1.0
FAILURE: Final = 2.0
"""Seconds that a failure of the Wi-Fi is shown."""


@dataclass(frozen=True, slots=True)
class Light:
    """A colour, or a first one for some seconds and then `other`: in turns, or `once` and for good."""

    colour: RGB
    other: RGB | None = None
    seconds: float = math.inf
    once: bool = False

    def at(self, elapsed: float) -> RGB:
        """The colour so many seconds after the light was first shown."""
        turn = elapsed // self.seconds
        return self.colour if self.other is None or (turn == 0 if self.once else turn % 2 == 0) else self.other

    def lasts(self, elapsed: float) -> float:
        """Seconds from then until the colour changes; inf when it never does."""
        if self.other is None or (self.once and elapsed >= self.seconds):
            return math.inf
        return self.seconds - elapsed % self.seconds


DARK: Final = Light(OFF)


class Connection(Enum):
    """How the Wi-Fi is, as its lamp tells it."""

    OFF = "off"
    CONNECTING = "connecting"
    FAILED = "failed"
    CONNECTED = "connected"


@dataclass(frozen=True, slots=True)
class CarFacts:
    """What of a car the status lamps tell: nothing of it is true while only the system runs."""

    loading: bool = False
    """The daemon or a model is on its way."""
    running: bool = False
    updating: bool = False
    failed: bool = False
    wifi: Connection = Connection.OFF
    low_battery: bool = False


def lamps(facts: CarFacts) -> dict[Lamp, Light]:
    """What each status lamp shows; the tail light shows its owner's colour instead.

    An update goes before a failure, since nobody may switch off meanwhile, and a failure before the rest. The stock car
    leaves its middle lamp dark; here it warns of a low battery.
    """
    if facts.updating:
        power = Light(BLUE, OFF, FAST)
    elif facts.failed:
        power = Light(RED)
    elif facts.loading:
        power = Light(YELLOW, OFF, FAST)
    else:
        power = Light(BLUE if facts.running else YELLOW)
    return {
        Lamp.POWER: power,
        Lamp.VEHICLE: Light(RED, OFF, SLOW) if facts.low_battery else DARK,
        Lamp.WIFI: {
            Connection.OFF: DARK,
            Connection.CONNECTING: Light(BLUE, OFF, FAST),
            Connection.FAILED: Light(RED, OFF, FAILURE, once=True),
            Connection.CONNECTED: Light(BLUE),
        }[facts.wifi],
    }


Show: TypeAlias = Callable[[RGB], None]
"""Lights one lamp. Raises DeviceError."""


class CarLights:
    """The Lights of a real car: a lamp that is not in `shows` is one that the car does not have, and stays dark."""

    def __init__(self, shows: Mapping[Lamp, Show], patience: float = PATIENCE) -> None:
        self._shows = {lamp: (show, Blocking(f"{lamp.value} light", patience)) for lamp, show in shows.items()}

    async def show(self, lamp: Lamp, colour: RGB) -> None:
        if lamp in self._shows:
            show, blocking = self._shows[lamp]
            await blocking.ask(partial(show, colour))


def status_lamps(root: Path) -> dict[Lamp, Show]:
    """The stock car's three, each of 1 bit a colour."""

    def lamp(outputs: Outputs, colour: RGB) -> None:
        outputs.write(*(value >= 128 for value in colour))

    return {kind: partial(lamp, Outputs(f"{kind.value} lamp", lines, root)) for kind, lines in STOCK_LINES.items()}


def sysfs_tail(through: str, root: Path) -> Show:
    """A tail light on the kernel's PWM files."""
    channels = [Channel(number, through, root) for number in TAIL]

    def show(colour: RGB) -> None:
        for channel, value in zip(channels, colour, strict=True):
            channel.drive(value * FULL_NS)

    return show


def pca9685_tail(open_bus: OpenBus) -> Show:
    """A tail light on a PCA9685, beside the governor, who sets the chip up: it shines once the wires are live."""
    chip = Chip(open_bus)

    def show(colour: RGB) -> None:
        for channel, value in zip(TAIL, colour, strict=True):
            chip.light(channel, value * FULL_NS)

    return show
