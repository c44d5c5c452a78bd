"""What the LiDAR measures: the field's walls, boxes and bots around the car, in one plane.

Its zero looks backwards: on the stock car the sensor is mounted turned by half, and its models know no other order.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

MOUNT: Final = 0.02913
"""Metres that the sensor stands ahead of the car's origin."""
NEAREST: Final = 0.15
FARTHEST: Final = 12.0
RESOLUTION: Final = 0.01
NOISE: Final = 0.01
"""Standard deviation of a measurement, metres."""


def scan(
    poses: NDArray[np.float64],
    angles: NDArray[np.float64],
    walls: tuple[float, float, float, float],
    solids: NDArray[np.float64],
    seeds: NDArray[np.uint64],
    turn: NDArray[np.int64],
    out: NDArray[np.float32],
    noise: float = NOISE,
) -> None:
    """Write what is measured, float32[batch, n] metres, inf for nothing, into `out`.

    `poses` [batch, >= 3] are x, y (m) and yaw (rad) of the cars' origins, `angles` [n] (rad) the rays in the sensor's
    own frame. `walls` is the field: x_min, y_min, x_max, y_max. `solids` [batch, k, >= 5] begin with x, y, yaw, half
    length and half width (m); one without length is not there. The noise depends on a car's seed and turn alone.
    """
    _scan(poses, angles, np.array(walls), solids, seeds, turn, out, noise)


@njit(cache=True)
def _scan(
    poses: NDArray[np.float64],
    angles: NDArray[np.float64],
    walls: NDArray[np.float64],
    solids: NDArray[np.float64],
    seeds: NDArray[np.uint64],
    turn: NDArray[np.int64],
    out: NDArray[np.float32],
    noise: float,
) -> None:
    for car in range(len(poses)):
        yaw = poses[car, 2]
        x = poses[car, 0] + MOUNT * math.cos(yaw)
        y = poses[car, 1] + MOUNT * math.sin(yaw)
        for ray in range(len(angles)):
            bearing = yaw + math.pi + angles[ray]
            dx, dy = math.cos(bearing), math.sin(bearing)
            reach = _to_wall(x, y, dx, dy, walls)
            for which in range(solids.shape[1]):
                reach = min(reach, _to_solid(x, y, dx, dy, solids[car, which]))
            reach += noise * _gauss(seeds[car], np.uint64(turn[car]), np.uint64(ray))
            reach = round(reach / RESOLUTION) * RESOLUTION
            out[car, ray] = max(reach, NEAREST) if reach <= FARTHEST else np.inf


@njit(cache=True)
def _to_wall(x: float, y: float, dx: float, dy: float, walls: NDArray[np.float64]) -> float:
    reach = np.inf
    if dx != 0.0:
        reach = ((walls[2] if dx > 0 else walls[0]) - x) / dx
    if dy != 0.0:
        reach = min(reach, ((walls[3] if dy > 0 else walls[1]) - y) / dy)
    return max(reach, 0.0)


@njit(cache=True)
def _to_solid(x: float, y: float, dx: float, dy: float, solid: NDArray[np.float64]) -> float:
    """Metres to the near side of an upright box (slab method); inf if the ray misses it."""
    if not solid[3] > 0:
        return np.inf
    cos, sin = math.cos(solid[2]), math.sin(solid[2])
    from_x, from_y = x - solid[0], y - solid[1]
    enter, leave = 0.0, np.inf
    for axis in range(2):
        side = cos if axis == 0 else -sin
        other = sin if axis == 0 else cos
        start = from_x * side + from_y * other
        pace = dx * side + dy * other
        half = solid[3 + axis]
        if abs(pace) < 1e-12:
            if abs(start) > half:
                return np.inf
            continue
        first, second = (-half - start) / pace, (half - start) / pace
        enter, leave = max(enter, min(first, second)), min(leave, max(first, second))
    return enter if enter <= leave else np.inf


@njit(cache=True)
def _gauss(seed: np.uint64, turn: np.uint64, ray: np.uint64) -> float:
    """A normal deviate that depends on its three numbers alone (splitmix64, Box-Muller)."""
    mixed = seed ^ (turn * np.uint64(0x9E3779B97F4A7C15)) ^ (ray * np.uint64(0xD1B54A32D192ED03))
    first, second = _mix(mixed), _mix(mixed + np.uint64(0x9E3779B97F4A7C15))
    u = (float(first >> np.uint64(11)) + 0.5) / 9007199254740992.0
    v = (float(second >> np.uint64(11)) + 0.5) / 9007199254740992.0
    return math.sqrt(-2.0 * math.log(u)) * math.cos(2.0 * math.pi * v)


@njit(cache=True)
def _mix(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
