"""The tail light's colour, remembered in the stock car's own file."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Final, TypeAlias

from drivers.disk import write_atomically

log = logging.getLogger(__name__)

Colour: TypeAlias = tuple[int, int, int]
"""Red, green, blue, 0..255."""

DEFAULT: Final[Colour] = (0, 0, 255)
STEP_NS: Final = 39_215
"""Nanoseconds of pulse, in the stock file, that one step of a colour stands for."""
KEYS: Final = ("red_pwm", "green_pwm", "blue_pwm")


def load(path: Path) -> Colour:
    """The stored colour; the default when there is none, or none that can be read."""
    try:
        values = json.loads(path.read_bytes())["Led Values"]
        red, green, blue = (min(max(round(values[key] / STEP_NS), 0), 255) for key in KEYS)
    except FileNotFoundError:
        return DEFAULT
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        log.warning("The stored colour of the tail light cannot be read; it shows the default.")
        return DEFAULT
    return red, green, blue


def save(path: Path, colour: Colour) -> None:
    """Store it, atomically. Raises OSError; the old file then still stands."""
    values = {key: value * STEP_NS for key, value in zip(KEYS, colour, strict=True)}
    write_atomically(path, json.dumps({"Led Values": values}).encode())
