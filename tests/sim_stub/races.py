"""A car led along a road by hand, for the tests of races and of traffic."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from sim_stub.dynamics import DEEPRACER, FRONT_POINT, YAW, X, Y
from sim_stub.parameters import COLUMN, SCALARS
from sim_stub.race import Race, Status
from sim_stub.rules import Rules
from sim_stub.track import Track
from tests.sim_stub.roads import square

REST = np.zeros((1, 2))
LAP = 24.0
OBJECTS = len(SCALARS) + 2


def race(rules: Rules | None = None, road: Track | None = None, batch: int = 1, seed: int = 0) -> Race:
    """On the square road of 6 m sides, unless told otherwise."""
    return Race(road or square(6.0, 1.0), rules or Rules(), DEEPRACER, batch, seed=seed)


def place(here: Race, along: float, aside: float = 0.0, turned: float = 0.0, world: int = 0) -> None:
    """Set a car's front point down, `aside` to the left of the centre line."""
    road = here.tracks[int(here.direction[world])]
    at, heading = road.place(np.array([along]))
    yaw = heading[0] + turned
    front = at[0] + aside * np.array([-np.sin(heading[0]), np.cos(heading[0])])
    here.state[world] = 0.0
    here.state[world, [X, Y]] = front - FRONT_POINT * np.array([np.cos(yaw), np.sin(yaw)])
    here.state[world, YAW] = math.remainder(yaw, 2 * np.pi)


def step(here: Race, wish: np.ndarray | None = None) -> Status:
    """One step; how it found the first car."""
    wish = np.zeros((here.batch, 2)) if wish is None else wish
    here.judge(wish)
    here.drive(wish)
    return Status(int(here.status[0]))


def value(here: Race, name: str, world: int = 0) -> float:
    return float(here.rows[world, COLUMN[name]])


def front(here: Race, world: int = 0) -> np.ndarray:
    x, y, yaw = here.state[world, [X, Y, YAW]]
    return np.array([x + FRONT_POINT * np.cos(yaw), y + FRONT_POINT * np.sin(yaw)])


def lead(here: Race, alongs: Iterable[float], aside: float = 0.0) -> list[Status]:
    """Put the car down along the road, step by step, until its run is over."""
    found = []
    for along in alongs:
        if here.done[0]:
            break
        place(here, along % here.length, aside)
        found.append(step(here))
    return found
