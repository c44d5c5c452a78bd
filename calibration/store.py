"""Remember the calibration in the stock car's own file."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from calibration.calibration import DEFAULT, Calibration, CalibrationError, Channel
from drivers.disk import sync_folder, write_atomically

log = logging.getLogger(__name__)

LARGEST_FILE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Remembered:
    """The calibration to drive with, and the fault to show when it is not the one that was stored."""

    calibration: Calibration
    fault: str | None = None


def load(path: Path) -> Remembered:
    """The calibration stored at `path`.

    No file: the default, no fault. A file that cannot be used is moved aside, never overwritten, and the default
    comes with a fault that says where the file went.
    """
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        return Remembered(DEFAULT)
    except OSError as error:
        return Remembered(DEFAULT, f"The calibration {path} cannot be read ({error.strerror}); using the default.")
    try:
        return Remembered(parse(text))
    except CalibrationError as error:
        fault = f"The stored calibration is damaged: {error} It is kept as {_keep_aside(path)}; calibrate the car anew."
        log.error(fault)
        return Remembered(DEFAULT, fault)


def save(path: Path, calibration: Calibration) -> None:
    """Store it, atomically, in the stock form. Raises OSError; the old file then still stands."""
    write_atomically(path, serialise(calibration))


def parse(text: bytes) -> Calibration:
    """Read the stock form. Raises CalibrationError with the reason."""
    if len(text) > LARGEST_FILE:
        raise CalibrationError(f"the file is larger than {LARGEST_FILE} bytes.")
    try:
        wires = json.loads(text)["Calibration"]
        servo, motor = (
            Channel(wire["min"], wire["mid"], wire["max"], wire["polarity"])
            for wire in (wires["Servo"], wires["Motor"])
        )
    except KeyError as error:
        raise CalibrationError(f"the key {error} is missing.") from error
    except CalibrationError:
        raise
    except (ValueError, TypeError, RecursionError) as error:
        raise CalibrationError(f"it is no calibration in JSON ({error}).") from error
    return Calibration(steering=servo, throttle=motor)


def serialise(calibration: Calibration) -> bytes:
    """The stock form: Servo and Motor in nanoseconds, version 1, indented by three."""
    wires: dict[str, object] = {
        name: {"max": c.max_ns, "mid": c.mid_ns, "min": c.min_ns, "polarity": c.polarity}
        for name, c in (("Motor", calibration.throttle), ("Servo", calibration.steering))
    }
    return (json.dumps({"Calibration": wires | {"version": 1}}, indent=3) + "\n").encode()


def _keep_aside(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    try:
        path.rename(aside)
        sync_folder(path.parent)
    except OSError:
        log.exception("The damaged calibration could not be moved aside")
        return path
    return aside
