"""What else is on the road: boxes that stand, and bot cars that drive along the lanes at a constant speed."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim_stub.rules import Rules
from sim_stub.survey import Ground, in_lane
from sim_stub.view import CARDBOARD, rgb

BOX: Final = (0.2413, 0.3874, 0.2667)
"""Metres along the road, across it and up: the car's own package, 9.5 x 15.25 x 10.5 inches."""
BOT: Final = (0.32352, 0.1961, 0.18)
BOT_COLOUR: Final = (200, 40, 30)
BOX_BUFFER: Final = 0.1
"""Metres that a box's footprint is longer and wider where crashes count, as in the original."""
OUTER, INNER = 0.0, 1.0
"""Lanes, as shares of the way from the outer lane to the inner."""
CHANGES: Final = 64
"""Lane changes of a bot drawn ahead; then the same waits come again."""


class Traffic:
    """The objects of a batch of worlds: first those of `kind` boxes, or bots; every world has equally many.

    `pose` float64[batch, n, 3] is x, y (m) and yaw (rad), `at` [batch, n] metres along the centre line, `speed` m/s.
    """

    def __init__(self, here: Ground, rules: Rules, batch: int) -> None:
        self.ground, self.rules = here, rules
        self.count = rules.obstacles + rules.bots
        self.moving = rules.bots > 0
        self.size = BOT if self.moving else BOX
        self.pose = np.zeros((batch, self.count, 3))
        self.at = np.zeros((batch, self.count))
        self._lane = np.zeros((batch, self.count))
        self._waits = np.zeros((batch, self.count, CHANGES))
        self._changed = np.zeros((batch, self.count), np.intp)
        self._next_change = np.zeros((batch, self.count))
        self._clock = np.zeros(batch)
        self._waiting = np.zeros(batch)

    @property
    def speed(self) -> float:
        return self.rules.bot_car_speed if self.moving else 0.0

    @property
    def footprint(self) -> tuple[float, float]:
        """Half length and half width (m) of the ground that a crash is judged by."""
        buffer = 0.0 if self.moving else BOX_BUFFER
        return (self.size[0] + buffer) / 2, (self.size[1] + buffer) / 2

    @property
    def solids(self) -> NDArray[np.float64]:
        """view.Boxes float64[batch, n, 8]: the objects as they stand now."""
        length, breadth, height = self.size
        solids = np.empty((*self.at.shape, 8))
        solids[..., :3] = self.pose
        solids[..., 3:] = length / 2, breadth / 2, height, 0.0, rgb(BOT_COLOUR if self.moving else CARDBOARD)
        return solids

    def place(self, world: int, direction: int, rng: np.random.Generator) -> None:
        """Set one world's objects down anew, for cars that drive in `direction`."""
        rules, length = self.rules, float(self.ground.reach[0, -1])
        lanes = np.where(np.arange(self.count) % 2 == 0, INNER, OUTER)
        if not self.moving and rules.object_positions:
            at = np.array([part * length for part, _ in rules.object_positions])
            lanes = np.array([INNER if lane == 1 else OUTER for _, lane in rules.object_positions])
        else:
            apart = rules.min_distance_between_bot_cars if self.moving else rules.min_distance_between_obstacles
            at = np.linspace(apart, length - 1.0, self.count)
            if rules.randomize_bot_car_locations if self.moving else rules.randomize_obstacle_locations:
                at, lanes = _scatter(at, apart, length - 1.0, rng), rng.integers(0, 2, self.count).astype(np.float64)
        self.at[world], self._lane[world] = at, lanes
        low, high = rules.lower_lane_change_time, rules.upper_lane_change_time
        self._waits[world] = rng.uniform(low, high, (self.count, CHANGES))
        self._changed[world] = 0
        self._next_change[world] = self._waits[world, :, 0]
        self._clock[world] = self._waiting[world] = 0.0
        self._show(np.array([world]), np.array([direction]))

    def hit(self, world: int) -> None:
        """Somebody ran into one of this world's objects: bots wait a while, all of them."""
        self._waiting[world] = self.rules.penalty_seconds

    def advance(self, seconds: float, worlds: NDArray[np.intp], directions: NDArray[np.int64]) -> None:
        """Let the objects of `worlds` [k] drive on, in the directions [k]."""
        if not self.moving or not len(worlds):
            return
        waited = np.minimum(self._waiting[worlds], seconds)
        self._waiting[worlds] -= waited
        self._clock[worlds] += seconds - waited
        self.at[worlds] = np.mod(
            self.at[worlds] + (seconds - waited)[:, None] * self.speed, float(self.ground.reach[0, -1])
        )
        self._show(worlds, directions)

    def _show(self, worlds: NDArray[np.intp], directions: NDArray[np.int64]) -> None:
        share, drift = self._lane[worlds], np.zeros((len(worlds), self.count))
        if self.moving and self.rules.is_lane_change and self.speed > 0:
            share, drift = self._change_lanes(worlds)
        _pose(self.ground, worlds, directions, self.at, share, drift, self.pose)

    def _change_lanes(self, worlds: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """How far over each bot is, and how that grows with each metre: a smooth step over the changing distance."""
        lasting = self.rules.lane_change_distance / self.speed
        clock = self._clock[worlds, None]
        lane, upcoming, changed = self._lane[worlds], self._next_change[worlds], self._changed[worlds]
        over = clock >= upcoming + lasting
        lane = np.where(over, 1.0 - lane, lane)
        changed = changed + over
        waits = np.take_along_axis(self._waits[worlds], (changed % CHANGES)[..., None], axis=2)[..., 0]
        upcoming = np.where(over, upcoming + lasting + waits, upcoming)
        self._lane[worlds], self._next_change[worlds], self._changed[worlds] = lane, upcoming, changed
        part = np.clip((clock - upcoming) / lasting, 0.0, 1.0)
        aim = 1.0 - 2.0 * lane
        share = lane + aim * part * part * (3 - 2 * part)
        return share, aim * 6 * part * (1 - part) / self.rules.lane_change_distance


def _scatter(at: NDArray[np.float64], apart: float, end: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Move each, in a random order, to a random place between its neighbours, `apart` from both."""
    at = at.copy()
    for which in rng.permutation(len(at)):
        low = at[which - 1] + apart if which > 0 else apart
        high = at[which + 1] - apart if which < len(at) - 1 else end
        if low < high:
            at[which] = rng.uniform(low, high)
    return at


@njit(cache=True)
def _pose(
    here: Ground,
    worlds: NDArray[np.intp],
    directions: NDArray[np.int64],
    at: NDArray[np.float64],
    share: NDArray[np.float64],
    drift: NDArray[np.float64],
    pose: NDArray[np.float64],
) -> None:
    for row in range(len(worlds)):
        world = worlds[row]
        for which in range(at.shape[1]):
            x, y, yaw = in_lane(here, directions[row], at[world, which], share[row, which], drift[row, which])
            pose[world, which, 0], pose[world, which, 1], pose[world, which, 2] = x, y, yaw
