"""Channel and Calibration: Action <-> pulses; pure, bounded, monotone and invertible."""

from __future__ import annotations

import math
from dataclasses import dataclass
from reprlib import repr as brief
from typing import Final

from drivers.signals import Action, ActuatorCommand

SHORTEST_NS: Final = 500_000
LONGEST_NS: Final = 2_500_000
"""No servo or speed controller of this kind understands a pulse outside 0.5..2.5 ms."""
CENTRE_NS: Final = 1_500_000
UNITS_NS: Final = {"steering": 10_000, "throttle": 4_500}
"""For each wire, what one step of a calibration slider is worth: the units in which the stock console counts."""
MOST_UNITS: Final = 50.0
"""No slider goes further from the centre."""


class CalibrationError(ValueError):
    """The figures make no calibration, or the wish is none; the message says which figure and what it must be."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One wire: the pulse at one end, at rest and at the other end, in nanoseconds.

    `polarity` is +1 when a positive wish lengthens the pulse and -1 when it shortens it.
    Raises CalibrationError unless 0.5 ms <= min < mid < max <= 2.5 ms.
    """

    min_ns: int
    mid_ns: int
    max_ns: int
    polarity: int

    def __post_init__(self) -> None:
        figures = (self.min_ns, self.mid_ns, self.max_ns, self.polarity)
        if any(type(figure) is not int for figure in figures):
            raise CalibrationError(f"min, mid, max and polarity must be whole numbers, not {brief(figures)}.")
        if not SHORTEST_NS <= self.min_ns < self.mid_ns < self.max_ns <= LONGEST_NS:
            raise CalibrationError(
                f"min < mid < max must hold between {SHORTEST_NS} and {LONGEST_NS} ns, not {brief(figures[:3])}."
            )
        if self.polarity not in (1, -1):
            raise CalibrationError(f"polarity must be 1 or -1, not {brief(self.polarity)}.")

    def pulse(self, value: float) -> int:
        """Nanoseconds for a wish of -1..1. Raises CalibrationError for anything else, NaN included."""
        if not -1.0 <= value <= 1.0:
            raise CalibrationError(f"A wish must lie in -1..1, not {value}.")
        turned = value * self.polarity
        span = self.max_ns - self.mid_ns if turned > 0 else self.mid_ns - self.min_ns
        return self.mid_ns + round(turned * span)

    def value(self, pulse_ns: int) -> float:
        """The wish -1..1 that asks for this pulse; a pulse beyond an end is taken for that end."""
        offset = min(max(pulse_ns, self.min_ns), self.max_ns) - self.mid_ns
        span = self.max_ns - self.mid_ns if offset > 0 else self.mid_ns - self.min_ns
        return offset / span * self.polarity


@dataclass(frozen=True, slots=True)
class Calibration:
    """How this car's two wires are trimmed."""

    steering: Channel
    throttle: Channel

    def command(self, action: Action) -> ActuatorCommand:
        """The pulses for a wish. Raises CalibrationError when a part of it is outside -1..1 or not finite."""
        return ActuatorCommand(self.steering.pulse(action.steering), self.throttle.pulse(action.throttle))

    def action(self, command: ActuatorCommand) -> Action:
        """What the pulses ask this car for."""
        return Action(self.steering.value(command.steering_ns), self.throttle.value(command.throttle_ns))

    @property
    def trimming(self) -> Calibration:
        """The same pulses at rest, and between the ends every pulse that a slider may try: what trimming is done by."""

        def wide(wire: str, channel: Channel) -> Channel:
            reach = round(MOST_UNITS * UNITS_NS[wire])
            low, high = min(CENTRE_NS - reach, channel.mid_ns - 1), max(CENTRE_NS + reach, channel.mid_ns + 1)
            return Channel(low, channel.mid_ns, high, 1)

        return Calibration(wide("steering", self.steering), wide("throttle", self.throttle))

    @property
    def resolution(self) -> float:
        """The largest difference that rounding to whole nanoseconds makes to a wish that goes there and back."""
        spans = [side for c in (self.steering, self.throttle) for side in (c.max_ns - c.mid_ns, c.mid_ns - c.min_ns)]
        return 0.5 / min(spans) + math.ulp(1.0)


def pulse_of(wire: str, units: float) -> int:
    """Nanoseconds for a slider's place on that wire, -MOST_UNITS..MOST_UNITS. Raises CalibrationError."""
    if not -MOST_UNITS <= units <= MOST_UNITS:
        raise CalibrationError(f"A {wire} value must lie in {-MOST_UNITS:.0f}..{MOST_UNITS:.0f}, not {units}.")
    return CENTRE_NS + round(units * UNITS_NS[wire])


def units_of(wire: str, pulse_ns: int) -> float:
    """The slider's place for a pulse, to a hundredth; the stock console's, where it is whole."""
    return round((pulse_ns - CENTRE_NS) / UNITS_NS[wire], 2)


DEFAULT: Final = Calibration(
    steering=Channel(1_200_000, 1_450_000, 1_700_000, 1),
    throttle=Channel(1_311_000, 1_446_000, 1_603_500, -1),
)
"""The trim that the stock car starts from: forward is the shorter pulse."""
