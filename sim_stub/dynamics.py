"""How a car moves: motor and steering that lag, a bicycle whose tyres give way; pure functions over a batch of cars.

The law is that of a kinematic bicycle, with what the traces of the original simulator ask for besides it and no more:

    speed' = (command - speed) / motor_lag, at most `push` either way
    wheel' = (command - wheel) / steering_lag; a new command moves the wheel at once by up to `kick` towards it
    yaw'   = turn / sqrt(1 + (speed turn / grip)^2), where turn = speed tan(wheel + trim) / wheelbase
    the car's origin moves to its left with (pivot - drift |speed|) yaw'

and a command takes hold `latency` after it was given. docs/simulator.md tells how each number was found.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from typing import Final, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

State: TypeAlias = NDArray[np.float64]
"""float64[batch, STATES]: x and y of the car's origin (m), yaw (rad, -pi..pi), speed (m/s, + forward), front wheels
(rad, + left), and then what advance() remembers: the last command given, the command that acts (each an angle and a
speed) and the seconds since the last command was given. A car at rest is zeros but for its pose."""
Command: TypeAlias = NDArray[np.float64]
"""float64[batch, 2]: wanted front wheel angle (rad, + left) and wanted speed (m/s, + forward)."""
Chassis: TypeAlias = NDArray[np.float64]
"""float64[batch, PARAMETERS]: the fields of Profile, in their order, for each car."""

X, Y, YAW, SPEED, WHEEL = range(5)
_GIVEN_WHEEL, _GIVEN_SPEED, _ACTING_WHEEL, _ACTING_SPEED, _AGE = range(5, 10)
STATES: Final = 10

MOTOR_LAG, PUSH, STEERING_LAG, KICK, TRIM, WHEELBASE, GRIP, PIVOT, DRIFT, LATENCY, LEAN = range(11)
PARAMETERS: Final = 11

REAR_AXLE: Final = -0.081663
"""Where the rear axle stands on the car's long axis, metres from its origin."""
FRONT_POINT: Final = 0.14
"""The point that rewards and logs call the position of the car, metres ahead of its origin."""
WHEELS: Final = np.array([[-0.081663, 0.08105], [-0.081663, -0.08105], [0.082311, 0.079601], [0.082311, -0.079601]])
"""Where the wheels touch the ground: rear left, rear right, front left, front right; metres from the origin."""
FULL_LOCK: Final = np.deg2rad(30.0)
LONGEST_STEP: Final = 1 / 100
"""Seconds that one step may last. Speed and wheel are exact whatever the step; the pose after a second of random
commands at up to 4 m/s and full lock is within a millimetre of that by steps a hundred times as short."""
_STANDSTILL: Final = 1e-3
"""m/s below which a car that shall stand stands."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One chassis; the columns of Chassis are these fields. Lags must be above zero, `push` and `grip` may be infinite.

    `grip` is the acceleration (m/s^2) that the tyres can give sideways, mu g in the original; `push` is what they and
    the motor can give along. `pivot` and `drift` say where the car has no velocity sideways: `pivot` metres behind its
    origin when it crawls, and `drift` metres further ahead for each m/s, since tyres that push sideways also slide.
    `trim` is how far the wheels stand left of what they were told, which the traces show the original's do.
    """

    motor_lag: float
    """s"""
    push: float
    """m/s^2"""
    steering_lag: float
    """s"""
    kick: float
    """rad"""
    trim: float
    """rad, + left"""
    wheelbase: float
    """m: of the bicycle that turns as tightly as the car does when it crawls"""
    grip: float
    """m/s^2"""
    pivot: float
    """m"""
    drift: float
    """s"""
    latency: float
    """s"""
    lean: float = 0.0
    """rad that it leans back, and its camera with it; it moves none the less for it"""


def advance(state: State, command: Command, seconds: ArrayLike, chassis_rows: Chassis | Profile) -> State:
    """The cars after `seconds` (one number or float64[batch], >= 0) under a constant command; a new array.

    A car comes out the same, bit for bit, alone and in any batch. A command that is followed by another before it
    takes hold does so then, so that commands in quick succession come early rather than never.
    """
    after = np.array(state, np.float64, order="C")
    batch = len(after)
    rows = chassis(chassis_rows, batch) if isinstance(chassis_rows, Profile) else chassis_rows
    span = np.empty(batch)
    span[:] = seconds
    if len(command) != batch or len(rows) != batch:
        raise ValueError(f"{batch} cars, but {len(command)} commands and {len(rows)} chassis")
    _advance(after, np.ascontiguousarray(command, np.float64), span, np.ascontiguousarray(rows, np.float64))
    return after


def chassis(profile: Profile, batch: int) -> Chassis:
    """float64[batch, PARAMETERS]: as many cars of the same profile."""
    return np.tile(np.array(astuple(profile), np.float64), (batch, 1))


def vary(
    rows: Chassis, motor: NDArray[np.float64], steering: NDArray[np.float64], friction: NDArray[np.float64]
) -> Chassis:
    """A copy of `rows` with these factors (float64[batch], > 0) on the motor's lag, the steering's lag and the tyres.

    Less friction is less grip sideways and less push along.
    """
    varied = rows.copy()
    varied[:, MOTOR_LAG] *= motor
    varied[:, STEERING_LAG] *= steering
    varied[:, GRIP] *= friction
    varied[:, PUSH] *= friction
    return varied


def to_world(state: State, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64[batch, n, 2]: points [n, 2] of the car's frame (m from its origin, x ahead, y left) in the world."""
    cos, sin = np.cos(state[:, YAW])[:, None], np.sin(state[:, YAW])[:, None]
    x = state[:, X, None] + cos * points[:, 0] - sin * points[:, 1]
    y = state[:, Y, None] + sin * points[:, 0] + cos * points[:, 1]
    return np.stack([x, y], axis=-1)


CONSOLE: Final = Profile(
    motor_lag=0.164,
    push=3.62,
    steering_lag=0.5,
    kick=0.0373,
    trim=0.0128,
    wheelbase=0.214,
    grip=4.905,
    pivot=0.051,
    drift=0.0,
    latency=0.026,
    lean=0.0243,
)
"""The original's version 4: effort controllers. The steering's lag is its controller's d / p = 0.5 s; a new
command differs so much from the last that the d part runs into the effort's limit, a push that is the same for any such
command: the kick. The grip is mu g, mu = 0.5. The rest is fitted to the even episodes of console-v4 and drfc-v5. It
leans back because its front wheels, as large as the rear ones, are hung 4 mm lower on 164 mm."""
DROA: Final = Profile(
    motor_lag=0.02,
    push=6.98,
    steering_lag=1 / 6,
    kick=0.0,
    trim=0.0059,
    wheelbase=0.215,
    grip=7.62,
    pivot=0.057,
    drift=0.0088,
    latency=0.0168,
    lean=0.0243,
)
"""The original's version 6: velocity and position controllers. The steering's lag follows from them: at 60 Hz each
turn of the loop asks for a speed that takes away a tenth of what is missing. The rest is fitted to the even episodes of
droa-v6-continuous."""
KINEMATIC: Final = DROA
"""The original's version 5, whose controllers are those of version 6. No trace of it was to be had."""
IDEAL: Final = Profile(
    motor_lag=1e-9,
    push=math.inf,
    steering_lag=1e-9,
    kick=0.0,
    trim=0.0,
    wheelbase=0.164,
    grip=math.inf,
    pivot=-REAR_AXLE,
    drift=0.0,
    latency=0.0,
)
"""A kinematic bicycle that does at once what it is told."""
DEEPRACER: Final = Profile(
    motor_lag=0.25,
    push=math.inf,
    steering_lag=0.05,
    kick=0.0,
    trim=0.0,
    wheelbase=0.20,
    grip=9.81,
    pivot=-REAR_AXLE,
    drift=0.0,
    latency=0.0,
)
"""The car on the table: a servo that turns 60 degrees in 0.12 s, rubber tyres of mu = 1, and the motor's lag and the
wheelbase as a first-order model finds them in traces."""


def profile_for(version: str) -> Profile:
    """The chassis in which the original trained a model whose metadata say this `version`.

    Of versions before 4 there is no trace. The one model of theirs that is at hand drives every start as DEEPRACER and
    none as CONSOLE: they, and models that say no version, get the car on the table.
    """
    return {"4": CONSOLE, "5": KINEMATIC, "6": DROA}.get(version, DEEPRACER)


@njit(cache=True, nogil=True, error_model="numpy")
def _advance(
    states: NDArray[np.float64],
    commands: NDArray[np.float64],
    seconds: NDArray[np.float64],
    rows: NDArray[np.float64],
) -> None:
    for car in range(len(states)):
        state, row, left = states[car], rows[car], seconds[car]
        if not left > 0.0:
            continue
        wheel = min(max(commands[car, 0], -FULL_LOCK), FULL_LOCK)
        speed = commands[car, 1]
        if wheel != state[_GIVEN_WHEEL] or speed != state[_GIVEN_SPEED]:
            _take_hold(state, row)
            state[_GIVEN_WHEEL], state[_GIVEN_SPEED], state[_AGE] = wheel, speed, 0.0
        wait = row[LATENCY] - state[_AGE]
        state[_AGE] += left
        if wait > 0.0:
            _glide(state, row, min(wait, left))
            left -= wait
        if left >= 0.0:
            _take_hold(state, row)
            _glide(state, row, left)
        state[YAW] = (state[YAW] + math.pi) % (2 * math.pi) - math.pi


@njit(cache=True, nogil=True, error_model="numpy")
def _take_hold(state: NDArray[np.float64], row: NDArray[np.float64]) -> None:
    change = state[_GIVEN_WHEEL] - state[_ACTING_WHEEL]
    state[WHEEL] += min(max(change, -row[KICK]), row[KICK])
    state[WHEEL] = min(max(state[WHEEL], -FULL_LOCK), FULL_LOCK)
    state[_ACTING_WHEEL], state[_ACTING_SPEED] = state[_GIVEN_WHEEL], state[_GIVEN_SPEED]


@njit(cache=True, nogil=True, error_model="numpy")
def _glide(state: NDArray[np.float64], row: NDArray[np.float64], seconds: float) -> None:
    """Move a car under the command that acts."""
    steps = math.ceil(seconds / LONGEST_STEP - 1e-9)
    if steps < 1:
        return
    dt = seconds / steps
    lag, push, grip = row[MOTOR_LAG], row[PUSH], row[GRIP]
    decay, steering_decay = math.exp(-dt / lag), math.exp(-dt / row[STEERING_LAG])
    wanted, wanted_wheel = state[_ACTING_SPEED], state[_ACTING_WHEEL]
    x, y, yaw, speed, wheel = state[X], state[Y], state[YAW], state[SPEED], state[WHEEL]
    for _ in range(steps):
        # Means over the step are exact, so that a lag much shorter than the step is no special case.
        before, missing = speed, wanted - speed
        hurried = max(abs(missing) / push - lag, 0.0)  # seconds at full push until the lag's law takes over
        if hurried >= dt:
            speed += math.copysign(push * dt, missing)
            mean = (before + speed) / 2
        elif hurried > 0.0:
            turned = before + math.copysign(push * hurried, missing)
            fade = math.exp(-(dt - hurried) / lag)
            speed = wanted + (turned - wanted) * fade
            rest = wanted * (dt - hurried) + (turned - wanted) * lag * (1 - fade)
            mean = ((before + turned) / 2 * hurried + rest) / dt
        else:
            speed = wanted - missing * decay
            mean = wanted - missing * lag * (1 - decay) / dt
        if wanted == 0.0 and abs(speed) < _STANDSTILL:
            speed = 0.0
        missing = wanted_wheel - wheel
        wheel = wanted_wheel - missing * steering_decay
        mean_wheel = wanted_wheel - missing * row[STEERING_LAG] * (1 - steering_decay) / dt
        rate = mean * math.tan(mean_wheel + row[TRIM]) / row[WHEELBASE]
        rate /= math.sqrt(1 + (mean * rate / grip) ** 2)
        aside = (row[PIVOT] - row[DRIFT] * abs(mean)) * rate
        half = rate * dt / 2
        # The chord of the arc that a constant velocity of the body makes; sin(h)/h by its series, for h is small.
        chord = dt * (1 - half * half / 6 * (1 - half * half / 20))
        cos, sin = math.cos(yaw + half), math.sin(yaw + half)
        x += chord * (mean * cos - aside * sin)
        y += chord * (mean * sin + aside * cos)
        yaw += 2 * half
    state[X], state[Y], state[YAW], state[SPEED], state[WHEEL] = x, y, yaw, speed, wheel
