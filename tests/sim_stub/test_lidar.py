"""The LiDAR in a field of 10 m by 6 m, against distances that a ruler gives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.features import encode
from inference.package import LidarConfig, Sensor
from sim_stub.env import LIDARS
from sim_stub.lidar import FARTHEST, MOUNT, NEAREST, NOISE, RESOLUTION, scan

LIDAR, SECTOR, DISCRETIZED = LIDARS[Sensor.LIDAR], LIDARS[Sensor.SECTOR_LIDAR], LIDARS[Sensor.DISCRETIZED_SECTOR_LIDAR]
FIELD = (0.0, 0.0, 10.0, 6.0)
NOTHING = np.zeros((1, 0, 8))
AHEAD, LEFT, BEHIND, RIGHT = math.pi, -math.pi / 2, 0.0, math.pi / 2
"""Angles in the sensor's own frame, whose zero looks backwards."""


def measured(
    pose: tuple[float, float, float],
    angles: list[float] | np.ndarray,
    solids: np.ndarray = NOTHING,
    noise: float = 0.0,
    seed: int = 1,
    turn: int = 0,
    field: tuple[float, float, float, float] = FIELD,
) -> np.ndarray:
    out = np.zeros((1, len(angles)), np.float32)
    scan(
        np.array([pose]),
        np.array(angles, np.float64),
        field,
        solids,
        np.array([seed], np.uint64),
        np.array([turn]),
        out,
        noise,
    )
    row: np.ndarray = out[0]
    return row


def solid(x: float, y: float, yaw: float = 0.0, length: float = 0.4, width: float = 0.2) -> np.ndarray:
    return np.array([[[x, y, yaw, length / 2, width / 2, 0.3, 0.0, 0.0]]])


def test_the_walls_are_where_they_are() -> None:
    ranges = measured((3.0, 2.0, 0.0), [AHEAD, LEFT, BEHIND, RIGHT])
    assert ranges == pytest.approx([7.0 - MOUNT, 4.0, 3.0 + MOUNT, 2.0], abs=RESOLUTION)


def test_the_sensor_turns_with_the_car() -> None:
    ranges = measured((3.0, 2.0, math.pi / 2), [AHEAD, LEFT, BEHIND, RIGHT])
    assert ranges == pytest.approx([4.0 - MOUNT, 3.0, 2.0 + MOUNT, 7.0], abs=RESOLUTION)


@given(st.floats(1.0, 9.0), st.floats(1.0, 5.0), st.floats(-3.14, 3.14), st.floats(-2.6, 2.6))
def test_every_ray_ends_at_a_wall(x: float, y: float, yaw: float, angle: float) -> None:
    reach = float(measured((x, y, yaw), [angle])[0])
    bearing = yaw + math.pi + angle
    end_x = x + MOUNT * math.cos(yaw) + reach * math.cos(bearing)
    end_y = y + MOUNT * math.sin(yaw) + reach * math.sin(bearing)
    to_walls = [abs(end_x), abs(end_x - 10.0), abs(end_y), abs(end_y - 6.0)]
    assert min(to_walls) < RESOLUTION
    assert -RESOLUTION < end_x < 10 + RESOLUTION
    assert -RESOLUTION < end_y < 6 + RESOLUTION


def test_a_box_hides_the_wall_behind_it() -> None:
    box = solid(5.0, 2.0)
    ahead = 5.0 - 0.2 - 3.0 - MOUNT
    edge = math.atan(0.1 / ahead)
    angles = [AHEAD, AHEAD + 0.95 * edge, AHEAD - 0.95 * edge, AHEAD + 1.05 * edge, AHEAD - 1.05 * edge, BEHIND]
    ranges = measured((3.0, 2.0, 0.0), angles, box)
    assert ranges[:3] == pytest.approx(
        [ahead, ahead / math.cos(0.95 * edge), ahead / math.cos(0.95 * edge)], abs=RESOLUTION
    )
    assert (ranges[3:5] > 6.5).all()
    assert ranges[5] == pytest.approx(3.0 + MOUNT, abs=RESOLUTION)


def test_a_box_may_be_turned() -> None:
    box = solid(5.0, 2.0, math.pi / 2)
    assert measured((3.0, 2.0, 0.0), [AHEAD], box)[0] == pytest.approx(2.0 - 0.1 - MOUNT, abs=RESOLUTION)
    corner = solid(5.0, 2.0, math.pi / 4, length=0.4, width=0.4)
    expected = 2.0 - 0.2 * math.sqrt(2) - MOUNT
    assert measured((3.0, 2.0, 0.0), [AHEAD], corner)[0] == pytest.approx(expected, abs=RESOLUTION)


def test_of_two_boxes_the_nearer_is_seen() -> None:
    both = np.concatenate([solid(6.0, 2.0), solid(5.0, 2.0)], axis=1)
    assert measured((3.0, 2.0, 0.0), [AHEAD], both)[0] == pytest.approx(1.8 - MOUNT, abs=RESOLUTION)


def test_a_box_without_length_is_not_there() -> None:
    gone = solid(5.0, 2.0, length=0.0)
    assert measured((3.0, 2.0, 0.0), [AHEAD], gone)[0] == pytest.approx(7.0 - MOUNT, abs=RESOLUTION)


def test_inside_a_box_all_is_near() -> None:
    assert measured((3.0, 2.0, 0.0), [AHEAD, LEFT, BEHIND], solid(3.0, 2.0)) == pytest.approx([NEAREST] * 3)


def test_nothing_is_nearer_than_the_nearest_and_nothing_is_farther_than_the_farthest() -> None:
    assert measured((9.9, 2.0, 0.0), [AHEAD])[0] == pytest.approx(NEAREST)
    hall = (0.0, 0.0, 40.0, 6.0)
    assert measured((3.0, 2.0, 0.0), [AHEAD, LEFT], field=hall).tolist() == [math.inf, 4.0]
    just = (0.0, 0.0, 3.0 + MOUNT + FARTHEST - 0.02, 6.0)
    assert measured((3.0, 2.0, 0.0), [AHEAD], field=just)[0] == pytest.approx(FARTHEST - 0.02, abs=RESOLUTION)


def test_ranges_are_whole_centimetres() -> None:
    ranges = measured((3.123, 2.345, 0.4), np.linspace(-2.6, 2.6, 64), noise=NOISE)
    assert np.allclose(ranges / RESOLUTION, np.round(ranges / RESOLUTION), atol=1e-3)
    assert len(set(ranges.tolist())) > 32


def test_the_noise_is_gaussian_and_as_strong_as_said() -> None:
    far = (0.0, 0.0, 1000.0, 1000.0)
    pose = (5.0, 500.0, 0.0)
    ranges = np.array([measured(pose, [BEHIND] * 64, noise=0.2, turn=turn, field=far) for turn in range(100)])
    error = (ranges - (5.0 + MOUNT)).ravel()
    assert abs(error.mean()) < 0.01
    assert error.std() == pytest.approx(0.2, rel=0.03)
    assert (np.abs(error) > 0.4).mean() == pytest.approx(0.0455, abs=0.01)
    assert np.abs(np.corrcoef(ranges[:-1].ravel(), ranges[1:].ravel())[0, 1]) < 0.05
    assert np.abs(np.corrcoef(ranges[:, :-1].ravel(), ranges[:, 1:].ravel())[0, 1]) < 0.05


def test_the_noise_depends_on_seed_and_turn_alone() -> None:
    angles = np.linspace(-2.6, 2.6, 64)
    poses = np.array([(3.0, 2.0, 0.1), (4.0, 3.0, -2.0), (3.0, 2.0, 0.1), (3.0, 2.0, 0.1)])
    seeds, turns = np.array([7, 7, 8, 7], np.uint64), np.array([4, 4, 4, 5])
    together = np.zeros((4, 64), np.float32)
    scan(poses, angles, FIELD, np.zeros((4, 0, 8)), seeds, turns, together, 0.1)
    for car in range(4):
        alone = np.zeros((1, 64), np.float32)
        one = slice(car, car + 1)
        scan(poses[one], angles, FIELD, NOTHING, seeds[one], turns[one], alone, 0.1)
        assert np.array_equal(alone[0], together[car])
    assert not np.array_equal(together[0], together[2])
    assert not np.array_equal(together[0], together[3])


def clipped(config: LidarConfig, pose: tuple[float, float, float], solids: np.ndarray) -> np.ndarray:
    angles = np.radians(np.linspace(config.min_angle, config.max_angle, config.num_values))
    reach = min(config.max_distance, config.clipping_distance)
    values: np.ndarray = np.clip(measured(pose, angles, solids), config.min_distance, reach)
    return values


POSE = (5.0, 3.0, 0.0)
"""The walls are out of every model's reach from here."""


def test_a_model_that_takes_distances_gets_them_clipped() -> None:
    seen = encode(Sensor.LIDAR, clipped(LIDAR, POSE, solid(5.0, 3.6)), LIDAR)
    assert seen.shape == (64,)
    assert seen.max() == 1.0
    # To the left is a quarter turn clockwise of the sensor's zero: -90 of -150..150 degrees.
    left = round(60 / 300 * 63)
    assert int(seen.argmin()) in range(left - 2, left + 3)
    assert seen.min() == pytest.approx(0.5, abs=0.02)
    assert (seen < 1.0).sum() < 12


@pytest.mark.parametrize(("degrees", "sector"), [(-140.0, 0), (-90.0, 1), (-20.0, 3), (20.0, 4), (90.0, 6), (140.0, 7)])
def test_a_box_is_told_in_its_sector(degrees: float, sector: int) -> None:
    bearing = math.pi + math.radians(degrees)
    box = solid(5.0 + 0.4 * math.cos(bearing), 3.0 + 0.4 * math.sin(bearing), length=0.1, width=0.1)
    expected = np.zeros(8)
    expected[sector] = 1.0
    seen = encode(Sensor.SECTOR_LIDAR, clipped(SECTOR, POSE, box), SECTOR)
    assert seen.tolist() == expected.tolist()
    assert not encode(Sensor.SECTOR_LIDAR, clipped(SECTOR, POSE, NOTHING), SECTOR).any()


@pytest.mark.parametrize(("distance", "band"), [(0.2, 0), (0.6, 2), (1.1, 4), (1.9, 7)])
def test_a_box_is_told_in_its_sector_and_at_its_distance(distance: float, band: int) -> None:
    """Bands of 0.25 m to 2 m; behind the car, just right of the sensor's zero."""
    away = distance + 0.05 + 0.001
    box = solid(5.0 + MOUNT - away, 3.0 + 0.3 * distance, length=0.1, width=0.2 * distance)
    seen = encode(Sensor.DISCRETIZED_SECTOR_LIDAR, clipped(DISCRETIZED, POSE, box), DISCRETIZED).reshape(8, 8)
    assert seen[3].tolist() == [float(which == band) for which in range(8)]
    assert seen.sum() == 1.0
    nothing = encode(Sensor.DISCRETIZED_SECTOR_LIDAR, clipped(DISCRETIZED, POSE, NOTHING), DISCRETIZED)
    assert nothing.shape == (64,)
    assert not nothing.any()
