"""How a car moves: first-order motor and steering, a bicycle that slips; pure functions over a batch of cars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

State: TypeAlias = NDArray[np.float64]
"""float64[batch, 5]: x and y of the car's origin (m), yaw (rad), speed (m/s), front wheels (rad, + left)."""
Command: TypeAlias = NDArray[np.float64]
"""float64[batch, 2]: wanted front wheel angle (rad, + left) and wanted speed (m/s, + forward)."""

X, Y, YAW, SPEED, WHEEL = range(5)

REAR_AXLE: Final = -0.081663
"""Where the rear axle stands on the car's long axis, metres from its origin."""
FRONT_POINT: Final = 0.14
"""The point that rewards and logs call the position of the car, metres ahead of its origin."""
WHEELS: Final = np.array([[-0.081663, 0.08105], [-0.081663, -0.08105], [0.082311, 0.079601], [0.082311, -0.079601]])
"""Where the wheels touch the ground: rear left, rear right, front left, front right; metres from the origin."""
FULL_LOCK: Final = np.deg2rad(30.0)
LONGEST_STEP: Final = 1 / 100
"""Seconds that one step may last: at 4 m/s and full lock its heading error stays under a milliradian."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One chassis. `*_lag` are first-order time constants (s); yaw rate = v tan(wheel) / (wheelbase + slip v^2)."""

    speed_lag: float
    steering_lag: float
    wheelbase: float
    slip: float


DEEPRACER: Final = Profile(speed_lag=0.25, steering_lag=0.05, wheelbase=0.20, slip=0.01)
"""The car on the table: motor, wheelbase and slip as fitted to traces; a servo that turns 60 degrees in 0.12 s."""


def advance(state: State, command: Command, seconds: float, profile: Profile) -> State:
    """The cars after `seconds` under a constant command, in steps of at most LONGEST_STEP."""
    steps = max(1, int(np.ceil(seconds / LONGEST_STEP - 1e-9)))
    for _ in range(steps):
        state = _step(state, command, seconds / steps, profile)
    return state


def _step(state: State, command: Command, dt: float, profile: Profile) -> State:
    wanted_wheel = np.clip(command[:, 0], -FULL_LOCK, FULL_LOCK)
    wheel = wanted_wheel + (state[:, WHEEL] - wanted_wheel) * np.exp(-dt / profile.steering_lag)
    speed = command[:, 1] + (state[:, SPEED] - command[:, 1]) * np.exp(-dt / profile.speed_lag)
    mean_speed = (speed + state[:, SPEED]) / 2
    mean_wheel = (wheel + state[:, WHEEL]) / 2
    turn = dt * mean_speed * np.tan(mean_wheel) / (profile.wheelbase + profile.slip * mean_speed**2)
    yaw = state[:, YAW]
    course, run = yaw + turn / 2, dt * mean_speed * np.sinc(turn / (2 * np.pi))
    shift_x = run * np.cos(course) - REAR_AXLE * (np.cos(yaw + turn) - np.cos(yaw))
    shift_y = run * np.sin(course) - REAR_AXLE * (np.sin(yaw + turn) - np.sin(yaw))
    yaw = np.mod(yaw + turn + np.pi, 2 * np.pi) - np.pi
    return np.stack([state[:, X] + shift_x, state[:, Y] + shift_y, yaw, speed, wheel], axis=1)


def to_world(state: State, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64[batch, n, 2]: points [n, 2] of the car's frame (m from its origin, x ahead, y left) in the world."""
    cos, sin = np.cos(state[:, YAW])[:, None], np.sin(state[:, YAW])[:, None]
    x = state[:, X, None] + cos * points[:, 0] - sin * points[:, 1]
    y = state[:, Y, None] + sin * points[:, 0] + cos * points[:, 1]
    return np.stack([x, y], axis=-1)
