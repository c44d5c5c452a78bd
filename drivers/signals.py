"""Every value that flows through the car, from the lens to the wheel.

Units are SI and bare: seconds, metres, metres a second, radians; anything else wears its unit (`_ns`, `_deg`, `_mm`).
Every `t` is seconds on the machine's monotonic clock, set where the photon or byte arrived and carried unchanged:
the age of an Action is the age of what it saw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # the governor imports this module and must stay small
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture: uint8[height, width, 3], BGR."""

    t: float
    image: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class LidarScan:
    """One turn: float32[n] metres, inf where nothing answered.

    Value i was measured at the angle -pi + 2 pi i / n of the sensor's own frame, counter-clockwise. The stock car wears
    its sensor turned by half, and its models know no other order: there 0 is straight behind.
    """

    t: float
    ranges: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What the car knows at one moment: the frames (left first) and the scan; `t` is that of the oldest part."""

    t: float
    frames: tuple[Frame, ...]
    scan: LidarScan | None = None


@dataclass(frozen=True, slots=True)
class Action:
    """A wish: steering -1..1 (+ left), throttle -1..1 (+ forward). This class owns the signs."""

    steering: float
    throttle: float


NEUTRAL: Final = Action(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class ActuatorCommand:
    """What the wires get: the width of the servo's and of the speed controller's pulse, nanoseconds."""

    steering_ns: int
    throttle_ns: int
