"""The car's motion against cases worked by hand, and the same for one car and for many."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_stub.dynamics import (
    CONSOLE,
    DEEPRACER,
    DROA,
    FULL_LOCK,
    GRIP,
    IDEAL,
    KINEMATIC,
    MOTOR_LAG,
    PARAMETERS,
    PUSH,
    REAR_AXLE,
    SPEED,
    STATES,
    STEERING_LAG,
    WHEEL,
    YAW,
    Profile,
    X,
    Y,
    advance,
    chassis,
    profile_for,
    to_world,
    vary,
)

PROFILES = [CONSOLE, KINEMATIC, DROA, IDEAL, DEEPRACER]
LAGGING = dataclasses.replace(IDEAL, motor_lag=0.2, push=3.0, steering_lag=0.4)
commands = st.tuples(st.floats(-0.6, 0.6), st.floats(-4, 4))


def driven(
    command: tuple[float, float], seconds: float, profile: Profile = DEEPRACER, speed: float = 0.0
) -> np.ndarray:
    state = np.zeros((1, STATES))
    state[0, SPEED] = speed
    after: np.ndarray = advance(state, np.array([command]), seconds, profile)[0]
    return after


@pytest.mark.parametrize("speed", [2.0, -1.5])
def test_straight_ahead_and_back_are_straight(speed: float) -> None:
    x, y, yaw, reached, wheel = driven((0.0, speed), 3.0, IDEAL)[: WHEEL + 1]
    assert x == pytest.approx(3 * speed)
    assert (y, yaw, wheel) == (0.0, 0.0, 0.0)
    assert reached == pytest.approx(speed)


def test_the_motor_gives_its_full_push_until_its_lag_takes_over() -> None:
    assert driven((0.0, 2.0), 0.3, LAGGING)[[X, SPEED]] == pytest.approx([3.0 * 0.3**2 / 2, 0.9])
    # 2 m/s are short of by push lag = 0.6 m/s after (2 - 0.6) / 3 s, and from then on they are neared exponentially.
    hurried = 1.4 / 3.0
    assert driven((0.0, 2.0), hurried + 0.2, LAGGING)[SPEED] == pytest.approx(2.0 - 0.6 * math.exp(-1))


def test_the_steering_answers_with_its_time_constant_after_its_kick() -> None:
    assert driven((0.3, 0.0), 0.4, LAGGING)[WHEEL] == pytest.approx(0.3 * (1 - math.exp(-1)))
    kicked = dataclasses.replace(LAGGING, kick=0.05)
    assert driven((-0.3, 0.0), 0.4, kicked)[WHEEL] == pytest.approx(-0.3 + 0.25 * math.exp(-1))
    assert driven((0.04, 0.0), 0.1, kicked)[WHEEL] == pytest.approx(0.04)


def test_a_command_takes_hold_after_its_latency_however_the_time_is_cut() -> None:
    late = dataclasses.replace(IDEAL, latency=0.05)
    assert not driven((0.3, 1.0), 0.05, late)[: WHEEL + 1].any()
    assert driven((0.0, 1.0), 0.15, late)[X] == pytest.approx(0.1)
    state = np.zeros((1, STATES))
    for seconds in (0.02, 0.02, 0.0, 0.02, 0.09):
        state = advance(state, np.array([[0.0, 1.0]]), seconds, late)
    assert state[0, X] == pytest.approx(0.1)


def test_commands_in_quick_succession_come_early_rather_than_never() -> None:
    state, late = np.zeros((1, STATES)), dataclasses.replace(IDEAL, latency=0.05)
    for tick in range(100):
        state = advance(state, np.array([[0.0, 1.0 + tick / 1000]]), 0.02, late)
    assert state[0, X] > 1.9


@pytest.mark.parametrize("speed", [1.0, -1.0])
def test_a_steady_circle_has_the_radius_of_the_bicycle_and_closes(speed: float) -> None:
    wheel = np.deg2rad(20.0)
    radius = IDEAL.wheelbase / np.tan(wheel)
    lap = 2 * np.pi * radius
    state, centre = np.zeros((1, STATES)), np.array([REAR_AXLE, radius])
    for _ in range(4):
        state = advance(state, np.array([[wheel, speed]]), lap / 4, IDEAL)
        assert np.hypot(*(state[0, [X, Y]] - centre)) == pytest.approx(np.hypot(radius, REAR_AXLE), rel=1e-6)
    assert np.allclose(state[0, [X, Y, YAW]], 0.0, atol=1e-6)


def test_the_tyres_give_no_more_than_their_grip() -> None:
    weak = dataclasses.replace(IDEAL, grip=5.0)
    rates = [driven((0.3, speed), 0.1, weak)[YAW] / 0.1 for speed in (0.1, 1.0, 4.0)]
    asked = [speed * math.tan(0.3) / IDEAL.wheelbase for speed in (0.1, 1.0, 4.0)]
    assert rates[0] == pytest.approx(asked[0], rel=1e-3)
    for rate, wanted, speed in zip(rates, asked, (0.1, 1.0, 4.0), strict=True):
        assert rate == pytest.approx(wanted / math.hypot(1, wanted * speed / 5.0))
        assert rate * speed < 5.0


def test_the_body_drifts_outwards_with_speed() -> None:
    sliding = dataclasses.replace(IDEAL, pivot=0.05, drift=0.1)
    state = driven((0.001, 2.0), 0.001, sliding)
    assert state[Y] == pytest.approx((0.05 - 0.2) * state[YAW] + state[X] * state[YAW] / 2, rel=1e-5)


def test_a_trimmed_car_pulls_to_its_left() -> None:
    pulled = driven((0.0, 1.0), 1.0, dataclasses.replace(IDEAL, trim=0.01))
    assert pulled[YAW] == pytest.approx(math.tan(0.01) / IDEAL.wheelbase)
    assert pulled[WHEEL] == 0.0


@pytest.mark.parametrize("profile", PROFILES)
def test_a_standing_car_stays_where_it_is(profile: Profile) -> None:
    pose = [1.0, -2.0, 0.7]
    state = np.zeros((1, STATES))
    state[0, [X, Y, YAW]] = pose
    for _ in range(30):
        state = advance(state, np.array([[0.4, 0.0]]), 0.1, profile)
    assert state[0, [X, Y, YAW]] == pytest.approx(pose, abs=1e-15)
    assert state[0, WHEEL] == pytest.approx(0.4, abs=0.002)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("speed", [4.0, -2.0])
def test_braking_is_monotone_and_ends_in_rest(profile: Profile, speed: float) -> None:
    state = advance(np.zeros((1, STATES)), np.array([[0.0, speed]]), 5.0, profile)
    speeds = [float(state[0, SPEED])]
    for _ in range(200):
        state = advance(state, np.array([[0.5, 0.0]]), 0.02, profile)
        speeds.append(float(state[0, SPEED]))
    assert speeds[0] == pytest.approx(speed)
    assert (np.diff(np.abs(speeds)) < 1e-9).all()  # the motor may not quite have been there when braking began
    assert speeds[-1] == 0.0
    assert np.array_equal(state[0, :3], advance(state, np.array([[0.5, 0.0]]), 1.0, profile)[0, :3])


def test_a_car_backs_into_a_turn() -> None:
    x, y, yaw = driven((0.3, -0.5), 1.0, DEEPRACER)[[X, Y, YAW]]
    assert x < 0
    assert y > 0
    assert yaw < 0


def test_the_wheels_turn_no_further_than_their_stop() -> None:
    for profile in PROFILES:
        assert driven((9.0, 0.0), 9.0, profile)[WHEEL] == pytest.approx(FULL_LOCK)


@given(st.lists(commands, min_size=1, max_size=7), st.lists(st.floats(0, 0.3), min_size=7, max_size=7), st.randoms())
def test_a_car_in_a_batch_drives_as_it_does_alone(
    wanted: list[tuple[float, float]], seconds: list[float], chance: np.random.Generator
) -> None:
    cars = len(wanted)
    rows = np.concatenate([chassis(PROFILES[chance.randint(0, 4)], 1) for _ in range(cars)])  # type: ignore[attr-defined]
    spans, start = np.array(seconds[:cars]), advance(np.zeros((cars, STATES)), np.array(wanted)[::-1], 0.4, rows)
    together = advance(start, np.array(wanted), spans, rows)
    for car in range(cars):
        one = slice(car, car + 1)
        assert np.array_equal(together[one], advance(start[one], np.array(wanted[one]), float(spans[car]), rows[one]))


def test_a_hundred_cars_drive_as_each_does_alone() -> None:
    rng = np.random.default_rng(5)
    command = np.stack([rng.uniform(-0.5, 0.5, 256), rng.uniform(-1, 4, 256)], axis=1)
    rows = vary(chassis(CONSOLE, 256), *rng.uniform(0.5, 2.0, (3, 256)))
    together = advance(np.zeros((256, STATES)), command, 1 / 15, rows)
    for car in range(256):
        one = slice(car, car + 1)
        assert np.array_equal(together[one], advance(np.zeros((1, STATES)), command[one], 1 / 15, rows[one]))


@given(st.lists(commands, min_size=1, max_size=12), st.sampled_from(PROFILES), st.floats(1e-3, 0.1))
def test_whatever_is_asked_for_the_car_stays_in_this_world(
    wanted: list[tuple[float, float]], profile: Profile, dt: float
) -> None:
    state = np.zeros((1, STATES))
    for command in wanted:
        before, state = state, advance(state, np.array([command]), dt, profile)
        assert np.isfinite(state).all()
        assert abs(state[0, SPEED]) <= 4.0 + 1e-9
        assert abs(state[0, WHEEL]) <= FULL_LOCK + 1e-9
        assert -np.pi <= state[0, YAW] <= np.pi
        assert np.hypot(*(state[0, [X, Y]] - before[0, [X, Y]])) <= 4.0 * dt * 2


@pytest.mark.parametrize("profile", PROFILES)
def test_a_hundred_times_finer_steps_end_within_a_millimetre(profile: Profile) -> None:
    rng = np.random.default_rng(3)
    coarse = fine = np.zeros((64, STATES))
    for _ in range(15):
        command = np.stack([rng.uniform(-FULL_LOCK, FULL_LOCK, 64), rng.uniform(0, 4, 64)], axis=1)
        coarse = advance(coarse, command, 1 / 15, profile)
        for _ in range(700):
            fine = advance(fine, command, 1 / 15 / 700, profile)
    assert np.hypot(*(coarse[:, [X, Y]] - fine[:, [X, Y]]).T).max() < 1e-3


def test_what_goes_in_stays_as_it_was() -> None:
    state, command, rows = np.zeros((2, STATES)), np.full((2, 2), 0.2), chassis(CONSOLE, 2)
    advance(state, command, np.array([0.1, 0.2]), rows)
    assert not state.any()
    assert (command == 0.2).all()
    assert np.array_equal(rows, chassis(CONSOLE, 2))


def test_as_many_commands_as_cars() -> None:
    with pytest.raises(ValueError, match="2 cars, but 1 commands"):
        advance(np.zeros((2, STATES)), np.zeros((1, 2)), 0.1, IDEAL)


def test_varied_cars_differ_in_what_was_varied() -> None:
    rows = chassis(DROA, 2)
    varied = vary(rows, np.array([1.0, 2.0]), np.array([1.0, 3.0]), np.array([1.0, 0.5]))
    factors = np.ones(PARAMETERS)
    factors[[MOTOR_LAG, STEERING_LAG, GRIP, PUSH]] = 2.0, 3.0, 0.5, 0.5
    assert np.array_equal(varied, rows * [np.ones(PARAMETERS), factors])


@pytest.mark.parametrize(
    ("version", "profile"),
    [("1", DEEPRACER), ("3", DEEPRACER), ("", DEEPRACER), ("4", CONSOLE), ("5", KINEMATIC), ("6", DROA)],
)
def test_the_version_of_a_model_chooses_its_chassis(version: str, profile: Profile) -> None:
    assert profile_for(version) is profile


def test_points_of_the_car_turn_with_it() -> None:
    state = np.array([[1.0, 2.0, np.pi / 2, 0.0, 0.0]])
    assert np.allclose(to_world(state, np.array([[0.5, 0.0], [0.0, 0.25]])), [[[1.0, 2.5], [0.75, 2.0]]])
