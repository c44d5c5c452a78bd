"""What a referee sees of each car: where it is, what it touches, how far it came. Compiled; one car after the other."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim_stub.dynamics import FRONT_POINT, WHEELS
from sim_stub.parameters import OBJECT_COLUMNS, width
from sim_stub.survey import Ground, locate, on_road

STUCK: Final = 0.0003
"""Metres from both of the last two points, within which a car did not move."""
STUCK_STEPS: Final = 15
BEHIND_STEPS: Final = 15
"""Steps in a row with less progress, after which a car is going the wrong way."""
FIRST_OBJECT: Final = width(0)
BODY: Final = (0.32352 / 2, 0.1961 / 2)
"""Half length and half width of the car where crashes count, metres."""


class Frustum(NamedTuple):
    """What the camera has in view, level ground: place on the car (m), tangents of half the view, pitch (rad)."""

    ahead: float = 0.14529379
    up: float = 0.1293
    wide: float = 0.6334
    high: float = 0.4751
    pitch: float = 0.2618


@njit(cache=True)
def progress_of(raw: float, before: float) -> tuple[float, float]:
    """Per cent of the lap, wrapped as the original wraps it so that it never jumps by half a lap; capped, and not."""
    value = 100.0 * raw
    if value <= 0.0:
        value += 100.0
    if before > value + 50.0:
        value += 100.0
    if value > before + 50.0:
        value -= 100.0
    return min(value, 100.0), value


@njit(cache=True)
def touches(x: float, y: float, yaw: float, pose: NDArray[np.float64], footprint: NDArray[np.float64]) -> bool:
    """Whether one of the car's four corners lies inside the object's rectangle."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    there_cos, there_sin = math.cos(pose[2]), math.sin(pose[2])
    for corner in range(4):
        ahead = BODY[0] if corner < 2 else -BODY[0]
        left = BODY[1] if corner % 2 else -BODY[1]
        dx = x + ahead * cos - left * sin - pose[0]
        dy = y + ahead * sin + left * cos - pose[1]
        if abs(dx * there_cos + dy * there_sin) < footprint[0] and abs(dy * there_cos - dx * there_sin) < footprint[1]:
            return True
    return False


@njit(cache=True)
def in_view(
    x: float, y: float, yaw: float, pose: NDArray[np.float64], footprint: NDArray[np.float64], lens: Frustum
) -> bool:
    """Whether the middle of an object or a corner of its footprint, on the ground, is in the camera's view."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    eye_x, eye_y = x + lens.ahead * cos, y + lens.ahead * sin
    there_cos, there_sin = math.cos(pose[2]), math.sin(pose[2])
    tilt_cos, tilt_sin = math.cos(lens.pitch), math.sin(lens.pitch)
    for corner in range(5):
        ahead, left = 0.0, 0.0
        if corner < 4:
            ahead = footprint[0] if corner < 2 else -footprint[0]
            left = footprint[1] if corner % 2 else -footprint[1]
        dx = pose[0] + ahead * there_cos - left * there_sin - eye_x
        dy = pose[1] + ahead * there_sin + left * there_cos - eye_y
        forward, aside = dx * cos + dy * sin, dy * cos - dx * sin
        depth = forward * tilt_cos + lens.up * tilt_sin
        down = lens.up * tilt_cos - forward * tilt_sin
        if depth > 0.02 and abs(aside) <= lens.wide * depth and abs(down) <= lens.high * depth:
            return True
    return False


class Ledger(NamedTuple):
    """What the referee keeps of each car; every array's first axis is the batch.

    `progress` is that of the step before (per cent), `uncapped` that of this step where it passes 100; `was`
    [batch, 2, 2] the last two points; `fell` and `stuck` count steps in a row; `wheels` are those on the road; `hit` is
    the object run into, or -1.
    """

    direction: NDArray[np.int64]
    start: NDArray[np.float64]
    steps: NDArray[np.int64]
    clock: NDArray[np.float64]
    progress: NDArray[np.float64]
    uncapped: NDArray[np.float64]
    was: NDArray[np.float64]
    fell: NDArray[np.int64]
    stuck: NDArray[np.int64]
    wheels: NDArray[np.int64]
    hit: NDArray[np.int64]


class Objects(NamedTuple):
    """What else is on the road: `pose` [batch, n, 3], half the length and width of a `footprint` (m), `speed` (m/s)."""

    pose: NDArray[np.float64]
    footprint: NDArray[np.float64]
    moving: bool
    speed: float


@njit(cache=True)
def judge_cars(
    here: Ground,
    going: NDArray[np.bool_],
    state: NDArray[np.float64],
    wish: NDArray[np.float64],
    ledger: Ledger,
    objects: Objects,
    lens: Frustum,
    rows: NDArray[np.float64],
) -> None:
    """Fill the rows of all cars that are `going`, and their lines of the ledger; `wish` [batch, 2] is rad and m/s."""
    for car in range(len(state)):
        if not going[car]:
            continue
        row, way = rows[car], ledger.direction[car]
        x, y, yaw = state[car, 0], state[car, 1], state[car, 2]
        cos, sin = math.cos(yaw), math.sin(yaw)
        front_x, front_y = x + FRONT_POINT * cos, y + FRONT_POINT * sin
        spot = locate(here, way, front_x, front_y)
        before = ledger.progress[car]
        done, ledger.uncapped[car] = progress_of(spot.along / here.reach[way, -1] - ledger.start[car], before)
        count = 0
        for wheel in range(4):
            ahead, left = WHEELS[wheel, 0], WHEELS[wheel, 1]
            count += on_road(here, x + ahead * cos - left * sin, y + ahead * sin + left * cos)
        was = ledger.was[car]
        moved = math.hypot(front_x - was[0, 0], front_y - was[0, 1])
        moved = min(moved, math.hypot(front_x - was[1, 0], front_y - was[1, 1]))
        was[1, 0], was[1, 1], was[0, 0], was[0, 1] = was[0, 0], was[0, 1], front_x, front_y
        ledger.wheels[car] = count
        ledger.fell[car] = ledger.fell[car] + 1 if done < before else 0
        ledger.stuck[car] = ledger.stuck[car] + 1 if moved <= STUCK else 0
        ledger.hit[car] = -1

        row[:] = 0.0
        row[0] = count == 4
        row[1], row[2], row[3] = front_x, front_y, math.degrees(yaw)
        row[4], row[5], row[6], row[7] = spot.aside, spot.along, done, ledger.steps[car]
        row[8], row[9], row[10] = wish[car, 1], math.degrees(wish[car, 0]), spot.width
        row[11], row[12], row[16] = spot.left, way, ledger.clock[car]
        row[17], row[18] = spot.behind, spot.ahead
        if objects.pose.shape[1]:
            ledger.hit[car] = _judge_objects(here, way, state[car], ledger.start[car], objects, car, lens, row)


@njit(cache=True)
def _judge_objects(
    here: Ground,
    way: int,
    state: NDArray[np.float64],
    start: float,
    objects: Objects,
    car: int,
    lens: Frustum,
    row: NDArray[np.float64],
) -> int:
    """Fill the objects' columns, with the nearest behind and ahead along the road, which wraps; returns who was hit."""
    x, y, yaw = state[0], state[1], state[2]
    poses = objects.pose[car]
    mine, done, length = row[5], row[6], here.reach[way, -1]
    hit, behind, ahead, first, last = -1, -1, -1, 0, 0
    for which in range(len(poses)):
        spot = locate(here, way, poses[which, 0], poses[which, 1])
        column = _along(which)
        row[column - 2], row[column - 1], row[column] = poses[which, 0], poses[which, 1], spot.along
        row[column + 1] = spot.aside
        row[column + 2] = math.degrees(poses[which, 2]) if objects.moving else 0.0
        row[column + 3], row[column + 4] = spot.left, objects.speed
        if spot.along > mine and (ahead < 0 or spot.along < row[_along(ahead)]):
            ahead = which
        if spot.along <= mine and (behind < 0 or spot.along >= row[_along(behind)]):
            behind = which
        if spot.along < row[_along(first)]:
            first = which
        if spot.along >= row[_along(last)]:
            last = which
        # Of two cars that touch, only the one behind is at fault, on either side of the line too.
        at_fault = not objects.moving or 0.0 < (100.0 * (spot.along / length - start) - done) % 100.0 < 50.0
        if hit < 0 and at_fault and touches(x, y, yaw, poses[which], objects.footprint):
            hit = which
    row[19] = behind if behind >= 0 else last
    row[20] = ahead if ahead >= 0 else first
    row[15] = in_view(x, y, yaw, poses[int(row[20])], objects.footprint, lens)
    return hit


@njit(cache=True)
def _along(which: int) -> int:
    """The column that tells how far along an object is."""
    return FIRST_OBJECT + OBJECT_COLUMNS * which + 2
