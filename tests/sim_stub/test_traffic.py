"""What else is on the road: where boxes stand, how bots drive, and whose fault a crash is."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from sim_stub.race import Race, Status
from sim_stub.rules import RaceType, Rules
from sim_stub.survey import REVERSED, in_lane
from sim_stub.track import Track
from tests.sim_stub.races import LAP, OBJECTS, place, race, step
from tests.sim_stub.roads import circle


def test_boxes_stand_evenly_in_alternate_lanes() -> None:
    rules = Rules(RaceType.OBJECT_AVOIDANCE, number_of_obstacles=5, min_distance_between_obstacles=3.0)
    here = race(rules, circle(4.0))
    step(here)
    columns = here.rows[0, OBJECTS + 2 :].reshape(5, 7)
    assert columns[:, 2] == pytest.approx(np.linspace(3.0, here.length - 1, 5), abs=0.01)
    assert columns[:, 3] == pytest.approx([0.25] * 5, abs=1e-3)
    assert columns[:, 5].tolist() == [1, 0, 1, 0, 1]
    assert np.array_equal(here.solids[0, :, :2], columns[:, :2])
    assert np.allclose(here.solids[0, :, 3:7], [0.2413 / 2, 0.3874 / 2, 0.2667, 0.0])


def test_boxes_stand_across_the_road() -> None:
    rules = Rules(RaceType.OBJECT_AVOIDANCE, object_positions=((3 / LAP, 1), (9 / LAP, -1)))
    assert np.allclose(race(rules).solids[0, :, :3], [[3.0, 0.25, 0.0], [6.25, 3.0, np.pi / 2]])
    around = race(dataclasses.replace(rules, reverse_dir=True)).solids[0, :, :2]
    assert np.allclose(around, [[0.25, 3.0], [3.0, 6.25]])


@pytest.mark.parametrize("seed", range(6))
def test_random_boxes_keep_their_distance(seed: int) -> None:
    # The road is full with eleven of them.
    rules = Rules(RaceType.OBJECT_AVOIDANCE, number_of_obstacles=6 + seed, randomize_obstacle_locations=True)
    count = rules.obstacles
    here = race(rules, batch=8, seed=seed)
    ats, lanes = set(), set()
    for _ in range(4):
        at = here.traffic.at
        assert (np.diff(at, axis=1) >= rules.min_distance_between_obstacles - 1e-9).all()
        assert (at[:, 0] >= rules.min_distance_between_obstacles - 1e-9).all()
        assert (at[:, -1] <= LAP - 1 + 1e-9).all()
        ats |= set(at.ravel().tolist())
        step(here)
        lanes |= set(map(tuple, here.rows[:, OBJECTS + 2 :].reshape(8, count, 7)[:, :, 5].tolist()))
        here.reset()
    assert len(ats) == 8 * count * 4
    assert len(lanes) > 8


def test_the_number_and_the_kind_of_the_objects_follow_the_rules() -> None:
    assert race().traffic.count == 0
    assert race(Rules(RaceType.HEAD_TO_BOT, number_of_bot_cars=4)).traffic.pose.shape == (1, 4, 3)
    assert race(Rules(RaceType.OBJECT_AVOIDANCE, number_of_obstacles=0)).rows.shape == race().rows.shape
    assert race(Rules(number_of_obstacles=9)).traffic.count == 0


BOTS = Rules(RaceType.HEAD_TO_BOT, number_of_bot_cars=3, bot_car_speed=0.6, max_steps=100_000)


def test_bots_drive_along_their_lanes_at_a_constant_speed() -> None:
    here = race(BOTS, circle(4.0))
    start = np.linspace(2.0, here.length - 1, 3)
    step(here)
    before = here.rows[0, OBJECTS + 2 :].reshape(3, 7).copy()
    assert before[:, 2] == pytest.approx(start, abs=0.01)
    assert before[:, 5].tolist() == [1, 0, 1]
    assert before[:, 6].tolist() == [0.6] * 3
    for count in range(1, 31):
        place(here, 6.0 + 0.001 * count)
        assert step(here) is Status.IN_PROGRESS
        row = here.rows[0, OBJECTS + 2 :].reshape(3, 7)
        ahead = row[:, 2] - start - 0.6 * count / 15
        assert np.allclose(np.sin(np.pi * ahead / here.length), 0.0, atol=1e-3)  # whole laps apart
        assert row[:, 3] == pytest.approx([0.25] * 3, abs=1e-3)
        assert row[:, 5].tolist() == [1, 0, 1]
        tangent = np.degrees(row[:, 2] / 4.0) + 90
        assert np.allclose((row[:, 4] - tangent + 180) % 360 - 180, 0.0, atol=1.5)


def test_a_bots_heading_is_told_in_degrees() -> None:
    here = race(dataclasses.replace(BOTS, number_of_bot_cars=1, min_distance_between_bot_cars=9.0))
    step(here)
    assert here.rows[0, OBJECTS + 2 + 4] == pytest.approx(90.0)
    around = race(dataclasses.replace(BOTS, number_of_bot_cars=1, min_distance_between_bot_cars=9.0, reverse_dir=True))
    step(around)
    # 9 m round the other way is the middle of the side where y = 6, from its left end.
    assert around.rows[0, OBJECTS + 2 + 4] == pytest.approx(0.0, abs=1e-9)
    assert around.rows[0, OBJECTS + 2 : OBJECTS + 4] == pytest.approx([3.0, 5.75])


def follow(rules: Rules, seconds: float, road: Track | None = None) -> tuple[np.ndarray, Race]:
    """The poses [steps, bots, 3] of the bots of a race, 60 a second."""
    here = race(dataclasses.replace(rules, rate=60.0), road)
    poses = [here.traffic.pose[0].copy()]
    for count in range(round(seconds * 60)):
        place(here, 15.0 + 0.0005 * count)
        assert step(here) is Status.IN_PROGRESS
        poses.append(here.traffic.pose[0].copy())
    return np.array(poses), here


def test_bots_change_lanes_smoothly_after_the_waits_they_drew() -> None:
    rules = dataclasses.replace(
        BOTS,
        number_of_bot_cars=2,
        is_lane_change=True,
        lower_lane_change_time=1.0,
        upper_lane_change_time=2.0,
        lane_change_distance=0.9,
    )
    poses, _ = follow(rules, 12.0, circle(6.0))
    radius = np.hypot(poses[..., 0], poses[..., 1])
    lane = (radius - 6.0) / 0.25  # 1 in the outer lane, -1 in the inner
    assert lane[0] == pytest.approx([-1, 1], abs=1e-3)
    for bot in range(2):
        changing = np.abs(lane[:, bot]) < 0.995
        edges = np.flatnonzero(np.diff(changing.astype(int)))
        starts, ends = edges[::2], edges[1::2]
        assert len(ends) >= 3
        # 0.9 m take 1.5 s; the ends of a smooth step are too flat to be seen.
        assert all(1.3 < (end - start) / 60 <= 1.5 for start, end in zip(starts, ends, strict=False))
        waits = [(start - end) / 60 for end, start in zip([-1, *ends], starts, strict=False)]
        assert all(1.0 - 1 / 60 <= wait <= 2.0 + 0.2 for wait in waits)
        assert max(waits) - min(waits) > 0.02
        for start, end in zip(starts, ends, strict=False):
            assert np.sign(lane[start, bot]) == -np.sign(lane[end + 1, bot])
    steps = np.diff(poses[..., :2], axis=0)
    pace = np.hypot(*np.moveaxis(steps, -1, 0)) * 60
    assert np.abs(np.diff(pace, axis=0)).max() < 0.02  # no jump
    assert pace.min() > 0.55
    assert pace.max() < 0.85
    course = np.arctan2(steps[..., 1], steps[..., 0])
    drift = np.abs(np.angle(np.exp(1j * (poses[:-1, :, 2] - course))))
    assert drift.max() < math.radians(3.0)
    along = np.arctan2(poses[..., 1], poses[..., 0]) + np.pi / 2
    turned = np.degrees(np.angle(np.exp(1j * (poses[..., 2] - along))))
    assert turned.max() > 25
    assert turned.min() < -25


def test_bots_keep_their_lanes_unless_told_otherwise() -> None:
    poses, _ = follow(dataclasses.replace(BOTS, number_of_bot_cars=2), 6.0, circle(6.0))
    radius = np.hypot(poses[..., 0], poses[..., 1])
    assert np.allclose(radius, [5.75, 6.25], atol=1e-3)


def test_after_a_hit_all_bots_wait_a_while() -> None:
    rules = dataclasses.replace(BOTS, number_of_resets=9, penalty_seconds=1.0, collision_penalty=3.0)
    here = race(rules)
    bot = here.traffic.pose[0, 0].copy()
    place(here, 1.95, 0.23)
    assert here.traffic.at[0, 0] == pytest.approx(2.0)
    assert step(here) is Status.CRASHED
    assert here.runs[0].mistakes[Status.CRASHED] == 1
    for _ in range(14):
        step(here)
        assert np.array_equal(here.traffic.pose[0, 0], bot)
    for _ in range(15):
        step(here)
    assert here.traffic.at[0] == pytest.approx((np.linspace(2.0, LAP - 1, 3) + 0.6) % LAP)


def test_a_bot_that_runs_into_a_car_is_not_the_cars_fault() -> None:
    here = race(BOTS)
    place(here, 2.25, 0.23)
    assert step(here) is Status.IN_PROGRESS
    # The same place is a crash for who comes from behind.
    place(here, 1.95, 0.23)
    assert step(here) is Status.CRASHED


def test_bots_drive_the_way_the_cars_do() -> None:
    here = race(dataclasses.replace(BOTS, alternate_driving_direction=True))
    first = here.traffic.pose[0, 0].copy()
    here.reset()
    second = here.traffic.pose[0, 0].copy()
    # 2 m along either way, in the inner lane.
    assert first == pytest.approx([2.0, 0.25, 0.0])
    assert second == pytest.approx([0.25, 2.0, np.pi / 2])
    assert np.allclose(second, in_lane(here.ground, REVERSED, 2.0, 1.0, 0.0))
