"""Where things are on a road, exactly as the original counts: for both driving directions, compiled, point by point.

Every function works on one point at a time, so that one car and a batch of 256 get the same numbers.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim_stub.track import Track

FORWARD, REVERSED = 0, 1
HEADING_STEP: Final = 0.1
"""Metres before and behind a point of a lane between which its heading is taken."""


class Ground(NamedTuple):
    """A track as the compiled functions read it; the first axis is the direction, FORWARD or REVERSED.

    Rows of `centre` [2, n, 2], `inner_lane` and `outer_lane` [2, n, 2] lie abreast; `reach` [2, n] is metres along
    `centre` to each row. `inner` and `outer` [m, 2] are the borders, closed if the track is.
    """

    centre: NDArray[np.float64]
    reach: NDArray[np.float64]
    inner_lane: NDArray[np.float64]
    outer_lane: NDArray[np.float64]
    inner: NDArray[np.float64]
    outer: NDArray[np.float64]
    closed: bool
    ccw: bool
    """Whether FORWARD runs counter-clockwise; an open track counts as if it did."""


class Spot(NamedTuple):
    """A point's place: `along` the centre line (m) and `aside` of it (m), waypoints `behind` and `ahead`."""

    along: float
    aside: float
    behind: int
    ahead: int
    left: bool
    """Whether it lies left of the centre line, in driving direction."""
    width: float
    """Metres from border to border there."""


def ground(track: Track) -> Ground:
    """`track` for the compiled functions."""
    both = [np.ascontiguousarray(np.stack([line, line[::-1]])) for line in (track.centre, track.inner, track.outer)]
    centre, inner, outer = both
    steps = np.hypot(*np.moveaxis(np.diff(centre, axis=1), -1, 0))
    reach = np.concatenate([np.zeros((2, 1)), np.cumsum(steps, axis=1)], axis=1)
    return Ground(
        centre,
        reach,
        (centre + inner) / 2,
        (centre + outer) / 2,
        np.ascontiguousarray(track.inner),
        np.ascontiguousarray(track.outer),
        track.closed,
        track.ccw,
    )


@njit(cache=True)
def nearest(line: NDArray[np.float64], x: float, y: float) -> tuple[int, float, float, float, float]:
    """The nearest point of a polyline [n, 2]: its segment, its part of it, x, y, and the square of its distance."""
    segment, part, foot_x, foot_y, least = 0, 0.0, line[0, 0], line[0, 1], np.inf
    for row in range(len(line) - 1):
        from_x, from_y = line[row, 0], line[row, 1]
        step_x, step_y = line[row + 1, 0] - from_x, line[row + 1, 1] - from_y
        length = step_x * step_x + step_y * step_y
        t = 0.0
        if length > 0:
            t = min(max(((x - from_x) * step_x + (y - from_y) * step_y) / length, 0.0), 1.0)
        near_x, near_y = from_x + t * step_x, from_y + t * step_y
        distance = (x - near_x) ** 2 + (y - near_y) ** 2
        if distance < least:
            segment, part, foot_x, foot_y, least = row, t, near_x, near_y, distance
    return segment, part, foot_x, foot_y, least


@njit(cache=True)
def _beyond(reach: NDArray[np.float64], at: float) -> int:
    """The first row that lies further along than `at`; their number if none does."""
    low, high = 0, len(reach)
    while low < high:
        middle = (low + high) // 2
        if at < reach[middle]:
            high = middle
        else:
            low = middle + 1
    return low


@njit(cache=True)
def locate(here: Ground, direction: int, x: float, y: float) -> Spot:
    segment, part, foot_x, foot_y, distance = nearest(here.centre[direction], x, y)
    reach = here.reach[direction]
    at = reach[segment] + part * (reach[segment + 1] - reach[segment])
    _, _, inner_x, inner_y, _ = nearest(here.inner, foot_x, foot_y)
    _, _, outer_x, outer_y, _ = nearest(here.outer, foot_x, foot_y)
    nearer_inner = math.hypot(x - inner_x, y - inner_y) < math.hypot(x - outer_x, y - outer_y)
    ahead = _beyond(reach, at)
    behind = ahead - 1
    if ahead == len(reach):
        ahead = 0
    ccw = here.ccw != (direction == REVERSED)
    width = math.hypot(inner_x - outer_x, inner_y - outer_y)
    return Spot(at, math.sqrt(distance), behind, ahead, nearer_inner == ccw, width)


@njit(cache=True)
def _inside(ring: NDArray[np.float64], x: float, y: float) -> bool:
    """Even-odd rule; the ring [n, 2] closes by itself."""
    inside = False
    last_x, last_y = ring[-1, 0], ring[-1, 1]
    for row in range(len(ring)):
        next_x, next_y = ring[row, 0], ring[row, 1]
        if (next_y > y) != (last_y > y) and x < (last_x - next_x) * (y - next_y) / (last_y - next_y) + next_x:
            inside = not inside
        last_x, last_y = next_x, next_y
    return inside


@njit(cache=True)
def on_road(here: Ground, x: float, y: float) -> bool:
    """Whether the point lies between the borders, white lines included."""
    if here.closed:
        return _inside(here.outer, x, y) != _inside(here.inner, x, y)
    count = len(here.outer)
    ring = np.empty((count + len(here.inner), 2))
    ring[:count] = here.outer
    ring[count:] = here.inner[::-1]
    return _inside(ring, x, y)


@njit(cache=True)
def _in_lane(here: Ground, direction: int, at: float, share: float) -> tuple[float, float]:
    """The point abreast of `at` metres along the centre line, `share` of the way from the outer lane to the inner."""
    reach = here.reach[direction]
    at = at % reach[-1] if here.closed else min(max(at, 0.0), reach[-1])
    row = min(max(_beyond(reach, at) - 1, 0), len(reach) - 2)
    part = (at - reach[row]) / (reach[row + 1] - reach[row])
    inner, outer = here.inner_lane[direction], here.outer_lane[direction]
    inner_x = inner[row, 0] + part * (inner[row + 1, 0] - inner[row, 0])
    inner_y = inner[row, 1] + part * (inner[row + 1, 1] - inner[row, 1])
    outer_x = outer[row, 0] + part * (outer[row + 1, 0] - outer[row, 0])
    outer_y = outer[row, 1] + part * (outer[row + 1, 1] - outer[row, 1])
    return outer_x + share * (inner_x - outer_x), outer_y + share * (inner_y - outer_y)


@njit(cache=True)
def in_lane(here: Ground, direction: int, at: float, share: float, drift: float) -> tuple[float, float, float]:
    """x, y and heading (rad) of something driving `at` metres along; `drift` is how `share` grows with each metre.

    `share` is 0 in the outer lane, 1 in the inner, 1/2 on the middle between both.
    """
    x, y = _in_lane(here, direction, at, share)
    from_x, from_y = _in_lane(here, direction, at - HEADING_STEP, share - drift * HEADING_STEP)
    to_x, to_y = _in_lane(here, direction, at + HEADING_STEP, share + drift * HEADING_STEP)
    return x, y, math.atan2(to_y - from_y, to_x - from_x)
