"""choose(): the only thing that lets a wish through to the wires; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from drivers.signals import NEUTRAL, Action


class DriveMode(Enum):
    """Who may wish."""

    MANUAL = "manual"
    AUTONOMOUS = "autonomous"
    CALIBRATION = "calibration"


@dataclass(frozen=True, slots=True)
class Proposal:
    """A wish, and the moment of what it is a reply to: the oldest thing that was seen, or the driver's hand."""

    action: Action
    t: float


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_age`: seconds after which a wish is too old to be acted on."""

    max_age: float = 0.3


LIMITS = Limits()


def choose(
    mode: DriveMode, engaged: bool, proposals: Mapping[DriveMode, Proposal], now: float, limits: Limits = LIMITS
) -> Action:
    """The action for the wires at `now`: the wish of the mode, if the car is engaged and the wish is fresh and sound.

    Everything else gives NEUTRAL: not engaged, no wish in this mode, one older than `limits.max_age` or from the
    future, one outside -1..1 or not a number.
    """
    if not engaged or mode not in proposals:
        return NEUTRAL
    proposal = proposals[mode]
    if not 0.0 <= now - proposal.t <= limits.max_age:
        return NEUTRAL
    if not (-1.0 <= proposal.action.steering <= 1.0 and -1.0 <= proposal.action.throttle <= 1.0):
        return NEUTRAL
    return proposal.action
