"""The car's motion against cases worked by hand, and the same for one car and for many."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_stub.dynamics import DEEPRACER, FULL_LOCK, REAR_AXLE, SPEED, WHEEL, YAW, Profile, advance, to_world

PROMPT = Profile(speed_lag=1e-3, steering_lag=1e-3, wheelbase=0.2, slip=0.0)


def driven(
    command: tuple[float, float], seconds: float, profile: Profile = DEEPRACER, speed: float = 0.0
) -> np.ndarray:
    state = np.zeros((1, 5))
    state[0, SPEED] = speed
    after: np.ndarray = advance(state, np.array([command]), seconds, profile)[0]
    return after


def test_straight_ahead_is_straight() -> None:
    x, y, yaw, speed, wheel = driven((0.0, 2.0), 3.0, PROMPT)
    assert x == pytest.approx(6.0, abs=0.02)
    assert (y, yaw, wheel) == (0.0, 0.0, 0.0)
    assert speed == pytest.approx(2.0)


def test_the_motor_answers_with_its_time_constant() -> None:
    assert driven((0.0, 2.0), DEEPRACER.speed_lag)[SPEED] == pytest.approx(2.0 * (1 - np.exp(-1)))


def test_the_servo_answers_with_its_time_constant() -> None:
    assert driven((0.3, 0.0), DEEPRACER.steering_lag)[WHEEL] == pytest.approx(0.3 * (1 - np.exp(-1)))


def test_a_steady_circle_has_the_radius_of_the_bicycle_and_closes() -> None:
    wheel, speed = np.deg2rad(20.0), 1.0
    state = np.array([[0.0, 0.0, 0.0, speed, wheel]])
    radius = PROMPT.wheelbase / np.tan(wheel)
    lap = 2 * np.pi * radius / speed
    centre = np.array([REAR_AXLE, radius])
    for _ in range(4):
        state = advance(state, np.array([[wheel, speed]]), lap / 4, PROMPT)
        assert np.hypot(*(state[0, :2] - centre)) == pytest.approx(np.hypot(radius, REAR_AXLE), rel=1e-4)
    assert np.allclose(state[0, :3], 0.0, atol=1e-3)


def test_slip_widens_the_circle_with_speed() -> None:
    yaw = [driven((0.3, speed), 1 / speed, speed=speed)[YAW] for speed in (0.5, 2.0, 4.0)]
    assert yaw[0] > yaw[1] > yaw[2] > 0


def test_the_wheels_turn_no_further_than_their_stop() -> None:
    assert driven((9.0, 0.0), 5.0)[WHEEL] == pytest.approx(FULL_LOCK)


@given(st.lists(st.tuples(st.floats(-0.5, 0.5), st.floats(-1, 4)), min_size=1, max_size=7), st.floats(0.001, 0.3))
def test_a_car_in_a_batch_drives_as_it_does_alone(commands: list[tuple[float, float]], seconds: float) -> None:
    together = advance(np.zeros((len(commands), 5)), np.array(commands), seconds, DEEPRACER)
    alone = [advance(np.zeros((1, 5)), np.array([command]), seconds, DEEPRACER)[0] for command in commands]
    assert np.array_equal(together, np.stack(alone))


def test_halving_the_steps_hardly_changes_the_way() -> None:
    state = coarse = np.array([[0.0, 0.0, 0.0, 2.0, 0.2]])
    command = np.array([[-0.3, 3.0]])
    for _ in range(200):
        state = advance(state, command, 0.005, DEEPRACER)
    coarse = advance(coarse, command, 1.0, DEEPRACER)
    assert np.allclose(state, coarse, atol=2e-3)


def test_points_of_the_car_turn_with_it() -> None:
    state = np.array([[1.0, 2.0, np.pi / 2, 0.0, 0.0]])
    assert np.allclose(to_world(state, np.array([[0.5, 0.0], [0.0, 0.25]])), [[[1.0, 2.5], [0.75, 2.0]]])
