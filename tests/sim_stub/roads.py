"""Roads that a ruler can measure, all of 1 m width."""

from __future__ import annotations

import numpy as np

from sim_stub.track import Track

HALF = 0.5
"""Half their width, metres."""


def square(side: float = 4.0, spacing: float = 2.0) -> Track:
    """Counter-clockwise from (0, 0), along +x first; waypoints every `spacing` metres, corners among them."""
    along = np.arange(0.0, side, spacing)
    still = np.zeros_like(along)
    sides = [(along, still), (still + side, along), (side - along, still + side), (still, side - along)]
    centre = np.concatenate([np.stack(each, axis=1) for each in sides])
    centre = np.vstack([centre, centre[:1]])
    away = (centre == side).astype(float) - (centre == 0.0)
    return Track("square", "Square", centre, centre - HALF * away, centre + HALF * away)


def straight(length: int = 6) -> Track:
    """Along +x; the inner border is the left one; a waypoint every metre."""
    x = np.arange(length + 1.0)
    centre, left, right = (np.stack([x, np.full(length + 1, y)], axis=1) for y in (0.0, HALF, -HALF))
    return Track("straight", "Straight", centre, left, right)


def circle(radius: float = 2.0, points: int = 400) -> Track:
    """Counter-clockwise, from (radius, 0)."""
    turn = np.linspace(0, 2 * np.pi, points + 1)
    turn[-1] = 0.0
    unit = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    return Track("circle", "Circle", radius * unit, (radius - HALF) * unit, (radius + HALF) * unit)
