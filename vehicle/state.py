"""VehicleState: what the world may know of the car, as one frozen value that travels as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Final

from drivers.signals import NEUTRAL, Action
from vehicle.gate import DriveMode

LONGEST_STATUS: Final = 3000
"""Bytes: systemd takes messages of 4096 at the most."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and 99th percentile of the latest samples; zero while there are none."""

    p50: float = 0.0
    p99: float = 0.0

    @classmethod
    def of(cls, samples: Iterable[float]) -> Spread:
        ranked = sorted(samples)
        return cls(*(ranked[min(int(q * len(ranked)), len(ranked) - 1)] for q in (0.5, 0.99))) if ranked else cls()


@dataclass(frozen=True, slots=True)
class Rates:
    """Times a second, over the latest second or two."""

    camera: float = 0.0
    inference: float = 0.0


@dataclass(frozen=True, slots=True)
class Latencies:
    """Milliseconds: one decision of the model; from the picture to the pulse; how late the governor's ticks come."""

    inference_ms: Spread = Spread()
    frame_to_pulse_ms: Spread = Spread()
    tick_late_ms: Spread = Spread()


@dataclass(frozen=True, slots=True)
class VehicleState:
    """One snapshot, taken at `t`.

    `engaged` and `mode` are two facts: who may wish, and whether wishes reach the wires. `applied` is what the wires
    got, not what was wished. `frames` counts the pictures of the first camera. `stopped_because` is the one reason why
    the car has stopped itself, until the next start. `battery` is 0..1, None where there is no gauge or no battery.
    """

    t: float
    mode: DriveMode = DriveMode.AUTONOMOUS
    engaged: bool = False
    applied: Action = NEUTRAL
    max_speed: float = 0.0
    frames: int = 0
    model: str | None = None
    loading: str | None = None
    rates: Rates = Rates()
    latencies: Latencies = Latencies()
    realtime: bool = False
    battery: float | None = None
    network: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    stopped_because: str | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self) | {"mode": self.mode.value})

    @classmethod
    def from_json(cls, text: str) -> VehicleState:
        """Raises ValueError, KeyError or TypeError when `text` is no snapshot."""
        data = json.loads(text)
        return cls(
            **data
            | {
                "mode": DriveMode(data["mode"]),
                "applied": Action(**data["applied"]),
                "rates": Rates(**data["rates"]),
                "latencies": Latencies(**{name: Spread(**spread) for name, spread in dict(data["latencies"]).items()}),
                "network": tuple(data["network"]),
                "faults": tuple(data["faults"]),
            }
        )


def status_line(doing: str, faults: Mapping[str, str]) -> str:
    """What the service manager shows of the car: what it does, and what is wrong, by device.

    Whatever the texts hold, it is one line of a length that systemd takes.
    """
    parts = [doing, *(f"{device}: {sentence}" for device, sentence in faults.items())]
    plain = ("".join(c if c.isprintable() and c != "|" else " " for c in part) for part in parts)
    line = " | ".join(" ".join(part.split()) for part in plain)
    return line.encode()[:LONGEST_STATUS].decode(errors="ignore")


def faults_of(status: str) -> dict[str, str]:
    """The faults, by device, of a line that `status_line` has made."""
    parts = (part.partition(": ") for part in status.split(" | ")[1:])
    return {device: sentence for device, _, sentence in parts if sentence}
