"""The calls that a reward function is tried with: a small oval, and one situation of each kind on it."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim_stub.parameters import SCALARS, width

_POINTS: Final = 60
TRIAL_ROUTE: Final = [
    (3.0 + 2.5 * math.cos(math.tau * k / _POINTS), 2.0 + 1.5 * math.sin(math.tau * k / _POINTS)) for k in range(_POINTS)
] + [(5.5, 2.0)]
TRIAL_LENGTH: Final = math.fsum(math.dist(TRIAL_ROUTE[k], TRIAL_ROUTE[k + 1]) for k in range(_POINTS))
_WIDTH: Final = 1.07

# Where on the lap (0..1), metres left of the centre line, degrees off its direction, m/s, degrees of steering.
_SITUATIONS: Final = (
    (0.0, 0.0, 0.0, 1.0, 0.0),
    (0.01, 0.1, 20.0, 0.1, -30.0),
    (0.3, -0.3, -20.0, 2.0, 30.0),
    (0.5, 0.45, 170.0, 4.0, 15.0),
    (0.7, -0.6, -90.0, 1.0, -5.0),
    (0.9, 1.2, 90.0, 1.0, 5.0),
    (0.97, -0.1, 5.0, 3.0, 10.0),
    (0.999, 0.0, -5.0, 4.0, 0.0),
)
_OBJECTS: Final = ((0.32, -0.25, 0.0), (0.6, 0.25, 0.5))
"""Where on the lap, how far left, m/s."""


def trial_rows(objects: int) -> NDArray[np.float64]:
    """float64[8, width(objects)], at most two objects: at the start, crashed, off the road, at the lap's end..."""
    rows = []
    for steps, (lap, left, off, speed, steering) in enumerate(_SITUATIONS, start=1):
        x, y, heading = _place(lap, left)
        behind = min(int(lap * _POINTS), _POINTS - 1)
        facts = {
            "all_wheels_on_track": abs(left) < 0.45,
            "x": x,
            "y": y,
            "heading": (heading + off + 180.0) % 360.0 - 180.0,
            "distance_from_center": abs(left),
            "projection_distance": lap * TRIAL_LENGTH,
            "progress": 100.0 * lap,
            "steps": 15 * steps - 14,
            "speed": speed,
            "steering_angle": steering,
            "track_width": _WIDTH,
            "is_left_of_center": left > 0.0,
            "is_reversed": False,
            "is_crashed": objects > 0 and lap == 0.3,
            "is_offtrack": abs(left) > 1.0,
            "object_in_camera": objects > 0 and lap == 0.3,
            "sim_time": steps - 1.0,
        }
        ahead = next((k for k in range(objects) if _OBJECTS[k][0] > lap), 0)
        nearest = [(ahead - 1) % objects, ahead] if objects else [0, 0]
        row = [float(facts[name]) for name, _ in SCALARS] + [behind, behind + 1, *nearest]
        for at, beside, pace in _OBJECTS[:objects]:
            *spot, direction = _place(at, beside)
            row += [*spot, at * TRIAL_LENGTH, abs(beside), direction if pace else 0.0, beside > 0.0, pace]
        rows.append(row)
    return np.array(rows, np.float64).reshape(len(_SITUATIONS), width(objects))


def _place(lap: float, left: float) -> tuple[float, float, float]:
    """x, y and the direction of the road in degrees, so far along the lap and so far left of its middle."""
    behind = min(int(lap * _POINTS), _POINTS - 1)
    (x, y), (ahead_x, ahead_y) = TRIAL_ROUTE[behind], TRIAL_ROUTE[behind + 1]
    direction, part = math.atan2(ahead_y - y, ahead_x - x), lap * _POINTS - behind
    return (
        x + part * (ahead_x - x) - left * math.sin(direction),
        y + part * (ahead_y - y) + left * math.cos(direction),
        math.degrees(direction),
    )
