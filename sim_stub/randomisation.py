"""What differs from one episode to the next, so that a driver learns the road and not the picture of it.

Each kind of chance has a strength: 0 is none, 1 the whole range named beside it; between them it shrinks in proportion.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim_stub.rules import RulesError, refuse_unknown
from sim_stub.track import Track

PALETTES: Final = 8
"""Repainted worlds that `lights` chooses among."""
GLARES: Final = 4
CLUTTER: Final = 6
"""Boxes that may stand in the field."""
FILM: Final = ("palette", "gain", "lift", "blur", "noise", "pitch", "yaw", "up", "ahead", "left")
"""What of a draw is the picture's, by the names of view.Film."""


@dataclass(frozen=True, slots=True)
class Randomisation:
    """Strengths, 0..1. Raises RulesError."""

    lights: float = 0.0
    """Colours of road, lines, field, walls and sky, and the colour of the light."""
    exposure: float = 0.0
    """Gain of 1/2 to 2 and up to 40 grey levels more or less."""
    blur: float = 0.0
    """A soft lens: up to a full 5-tap binomial filter."""
    noise: float = 0.0
    """Up to 12 grey levels (standard deviation), new in each picture."""
    camera: float = 0.0
    """Mounting: pitch 3 and yaw 2 degrees, height 15 mm, place 10 mm, either way."""
    camera_latency: float = 0.0
    """A picture up to 60 ms old."""
    command_latency: float = 0.0
    """A command that takes hold up to 60 ms late."""
    motor: float = 0.0
    """Lag between half and twice; speed 20 % more or less."""
    steering: float = 0.0
    """Lag between half and twice; angle 15 % more or less, and trimmed by up to 2 degrees."""
    friction: float = 0.0
    """Grip from 40 % less to 20 % more."""
    glare: float = 0.0
    """Up to GLARES bright patches on the ground, of 0.1 to 0.5 m radius and up to 120 grey levels."""
    clutter: float = 0.0
    """Up to CLUTTER boxes in the field beside the road."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise RulesError(f"The strength of {field.name} must lie in 0..1, not {value!r}.")


PRESETS: Final = {
    "none": Randomisation(),
    "lights": Randomisation(lights=1.0),
    "real-world": Randomisation(
        lights=0.7,
        exposure=0.6,
        blur=0.6,
        noise=0.5,
        camera=0.6,
        camera_latency=0.5,
        command_latency=0.4,
        motor=0.5,
        steering=0.4,
        friction=0.5,
        glare=0.5,
        clutter=0.5,
    ),
}


def read_randomisation(value: str | Mapping[str, Any] | Randomisation) -> Randomisation:
    """A preset's name, or strengths by name; `preset` among them is what the others start from. Raises RulesError."""
    if isinstance(value, Randomisation):
        return value
    strengths = {"preset": value} if isinstance(value, str) else dict(value)
    preset = strengths.pop("preset", "none")
    if preset not in PRESETS:
        raise RulesError(f"randomisation must be one of {', '.join(PRESETS)}, or strengths by name, not {preset!r}.")
    known = {field.name for field in fields(Randomisation)}
    refuse_unknown("randomisation", strengths, known)
    return dataclasses.replace(PRESETS[preset], **strengths)


@dataclass(frozen=True, slots=True)
class Draw:
    """What one episode got. Neutral unless drawn; seconds, metres, radians, grey levels, factors."""

    palette: int = 0
    gain: float = 1.0
    lift: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    pitch: float = 0.0
    yaw: float = 0.0
    up: float = 0.0
    ahead: float = 0.0
    left: float = 0.0
    camera_latency: float = 0.0
    command_latency: float = 0.0
    motor_lag: float = 1.0
    speed_gain: float = 1.0
    steering_lag: float = 1.0
    steering_gain: float = 1.0
    steering_trim: float = 0.0
    friction: float = 1.0
    glares: int = 0
    glare: float = 0.0
    clutter: int = 0


def draw(strengths: Randomisation, rng: np.random.Generator) -> Draw:
    """One episode's chances. It always takes as many numbers from `rng`, so that strengths do not shift the rest."""
    chance = rng.uniform(-1.0, 1.0, 17).tolist()
    whole = rng.random(4).tolist()

    def within(reach: float, strength: float) -> float:
        return reach * strength * float(chance.pop())

    return Draw(
        palette=int(whole[0] * PALETTES) if strengths.lights else 0,
        gain=math.exp(within(math.log(2), strengths.exposure)),
        lift=within(40.0, strengths.exposure),
        blur=abs(within(1.0, strengths.blur)),
        noise=abs(within(12.0, strengths.noise)),
        pitch=within(math.radians(3), strengths.camera),
        yaw=within(math.radians(2), strengths.camera),
        up=within(0.015, strengths.camera),
        ahead=within(0.01, strengths.camera),
        left=within(0.01, strengths.camera),
        camera_latency=abs(within(0.06, strengths.camera_latency)),
        command_latency=abs(within(0.06, strengths.command_latency)),
        motor_lag=math.exp(within(math.log(2), strengths.motor)),
        speed_gain=1 + within(0.2, strengths.motor),
        steering_lag=math.exp(within(math.log(2), strengths.steering)),
        steering_gain=1 + within(0.15, strengths.steering),
        steering_trim=within(math.radians(2), strengths.steering),
        friction=1 + strengths.friction * (0.6 * whole[1] - 0.4),
        glares=int(whole[2] * (GLARES + 1)) if strengths.glare else 0,
        glare=120.0 * strengths.glare,
        clutter=int(whole[3] * (CLUTTER + 1)) if strengths.clutter else 0,
    )


def scatter_clutter(count: int, track: Track, rng: np.random.Generator) -> NDArray[np.float64]:
    """view.Boxes [CLUTTER, 8]: `count` boxes of any size and colour in the field; fewer where it is full."""
    chance = rng.random((CLUTTER, 40, 2))
    shape = rng.uniform([0.0, 0.05, 0.05, 0.1], [np.pi, 0.3, 0.3, 0.8], (CLUTTER, 4))
    colours = rng.integers(0, 1 << 24, CLUTTER)
    boxes = np.zeros((CLUTTER, 8))
    low_x, low_y, high_x, high_y = track.field
    for which in range(count):
        size = float(np.hypot(shape[which, 1], shape[which, 2]))
        places = np.array([low_x, low_y]) + chance[which] * np.array([high_x - low_x, high_y - low_y])
        free = track.distance_from_road(places) > size + 0.1
        for other in boxes[:which]:
            free &= np.hypot(*(places - other[:2]).T) > size + np.hypot(other[3], other[4])
        if free.any():
            boxes[which, :2] = places[int(free.argmax())]
            boxes[which, 2:6], boxes[which, 7] = shape[which], colours[which]
    return boxes


def scatter_glare(chances: Draw, track: Track, rng: np.random.Generator) -> NDArray[np.float64]:
    """view.Film's glare [GLARES, 4]: bright patches on the road or beside it."""
    chance = rng.random((GLARES, 4))
    patches = np.zeros((GLARES, 4))
    place, heading = track.place(chance[:, 0] * track.length)
    aside = (chance[:, 1] - 0.5) * 2.0
    patches[:, 0] = place[:, 0] - aside * np.sin(heading)
    patches[:, 1] = place[:, 1] + aside * np.cos(heading)
    patches[:, 2] = 0.1 + 0.4 * chance[:, 2]
    patches[:, 3] = chances.glare * chance[:, 3]
    patches[chances.glares :] = 0.0
    return patches
