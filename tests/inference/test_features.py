"""From pictures and scans to a network's inputs, against cases worked by hand."""

from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from drivers.signals import Frame, LidarScan, Observation
from inference.features import HEIGHT, WIDTH, SensorMissing, feature, grey, resample
from inference.package import LidarConfig, Sensor

CAMERAS = [Sensor.OBSERVATION, Sensor.FRONT_FACING_CAMERA, Sensor.LEFT_CAMERA]
SCANNERS = [Sensor.LIDAR, Sensor.SECTOR_LIDAR, Sensor.DISCRETIZED_SECTOR_LIDAR]


def plain(blue: int, green: int, red: int, width: int = WIDTH, height: int = HEIGHT) -> Frame:
    return Frame(0.0, np.full((height, width, 3), (blue, green, red), np.uint8))


def seen(*frames: Frame, scan: NDArray[np.float32] | list[float] | None = None) -> Observation:
    return Observation(0.0, frames, None if scan is None else LidarScan(0.0, np.array(scan, np.float32)))


@pytest.mark.parametrize(
    ("colour", "level"),
    [((0, 0, 0), 0), ((255, 255, 255), 255), ((0, 0, 255), 76), ((0, 255, 0), 150), ((255, 0, 0), 29)],
)
def test_grey_weighs_red_green_and_blue_as_the_eye_does(colour: tuple[int, int, int], level: int) -> None:
    assert (grey(plain(*colour)) == level).all()


def test_grey_of_three_equal_channels_is_that_channel() -> None:
    levels = np.arange(256, dtype=np.uint8).repeat(75).reshape(HEIGHT, WIDTH)
    assert (grey(Frame(0.0, np.stack([levels] * 3, axis=-1))) == levels).all()


def test_a_picture_of_the_right_size_keeps_every_point() -> None:
    image = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    weighted = image @ np.array([0.114, 0.587, 0.299])
    assert abs(grey(Frame(0.0, image)) - weighted).max() <= 0.51


def test_another_size_is_scaled_bilinearly() -> None:
    halves = np.zeros((2 * HEIGHT, 2 * WIDTH, 3), np.uint8)
    halves[:, 1::2] = 200
    scaled = grey(Frame(0.0, halves))
    assert scaled.shape == (HEIGHT, WIDTH)
    assert (scaled == 100).all()


@pytest.mark.parametrize("sensor", CAMERAS)
@pytest.mark.parametrize(("width", "height"), [(160, 120), (640, 480), (1, 1)])
def test_a_camera_gives_one_picture_of_grey_levels(sensor: Sensor, width: int, height: int) -> None:
    values = feature(sensor, seen(plain(0, 255, 0, width, height), plain(9, 9, 9)))
    assert values.shape == (1, 120, 160, 1)
    assert values.dtype == np.float32
    assert (values == 150).all()


def test_two_cameras_stand_side_by_side_left_first() -> None:
    values = feature(Sensor.STEREO_CAMERAS, seen(plain(10, 10, 10), plain(20, 20, 20)), size=(32, 24))
    assert values.shape == (1, 24, 32, 2)
    assert (values[..., 0] == 10).all()
    assert (values[..., 1] == 20).all()


@pytest.mark.parametrize(
    ("sensor", "observation", "said"),
    [
        *((sensor, seen(scan=[1.0]), "0 picture") for sensor in (*CAMERAS, Sensor.STEREO_CAMERAS)),
        (Sensor.STEREO_CAMERAS, seen(plain(1, 1, 1)), "1 picture"),
        *((sensor, seen(plain(1, 1, 1)), "no LiDAR") for sensor in SCANNERS),
    ],
)
def test_what_is_missing_is_named(sensor: Sensor, observation: Observation, said: str) -> None:
    with pytest.raises(SensorMissing, match=f"{sensor.value}.*{said}"):
        feature(sensor, observation)


# Eight values of a turn stand at -180, -135, -90, -45, 0, 45, 90 and 135 degrees.
FIVE = LidarConfig(5, -90, 90, min_distance=0.15, max_distance=2, clipping_distance=1, num_sectors=5)


@pytest.mark.parametrize(
    ("config", "turn", "values"),
    [
        (FIVE, [9, 9, 0.2, 0.3, 0.4, 0.5, 0.6, 9], [0.2, 0.3, 0.4, 0.5, 0.6]),
        (FIVE, [0.2, 0.2, math.inf, 0.05, 7, math.nan, -math.inf, 0.2], [1, 0.15, 1, 1, 1]),
        (LidarConfig(3, -22.5, 22.5, 0.1, 2, 2, 1), [9, 9, 9, 9, 0.5, 9, 9, 9], [2, 0.5, 2]),
        (LidarConfig(5, -45, 45, 0.1, 2, 2, 1), [9, 9, 9, 1, 0.5, 1.5, 9, 9], [1, 0.75, 0.5, 1, 1.5]),
        (LidarConfig(2, 150, 160, 0.1, 2, 2, 1), [1] * 8, [2, 2]),
        (LidarConfig(1, 0, 0, 0.1, 2, 2, 1), [9, 9, 9, 9, 0.5, 9, 9, 9], [0.5]),
        (LidarConfig(3, -180, 180, 0.1, 2, 2, 1), [0.7, 9, 9, 9, 0.5, 9, 9, 9], [0.7, 0.5, 2]),
    ],
    ids=["straight through", "clipped both ways", "ends missing", "between", "none inside", "one", "full turn"],
)
def test_a_scan_is_resampled(config: LidarConfig, turn: list[float], values: list[float]) -> None:
    scan = LidarScan(0.0, np.array(turn, np.float32))
    assert resample(scan, config) == pytest.approx(values)
    assert feature(Sensor.LIDAR, seen(scan=turn), config)[0] == pytest.approx(values)


def test_the_stock_lidar_reads_64_values_over_300_degrees() -> None:
    turn = np.full(360, np.inf, np.float32)
    turn[180] = 0.3  # straight ahead
    values = feature(Sensor.LIDAR, seen(scan=turn))
    assert values.shape == (1, 64)
    assert values.dtype == np.float32
    assert values.max() == 0.5  # the stock car's max_distance is below its clipping distance
    assert (values[0] < 0.5).nonzero()[0].size == 0  # no value stands at 0 degrees, both neighbours at 2.4
    turn[178:183] = 0.3
    assert (feature(Sensor.LIDAR, seen(scan=turn))[0] < 0.5).nonzero()[0].tolist() == [31, 32]


def test_a_sector_is_one_when_something_is_near_in_it() -> None:
    config = LidarConfig(4, -90, 45, 0.1, max_distance=1, clipping_distance=2, num_sectors=2)
    turn = [0.1, 0.1, math.inf, 1.0, 0.99, math.inf, 0.1, 0.1]
    assert feature(Sensor.SECTOR_LIDAR, seen(scan=turn), config).tolist() == [[0, 1]]


def test_the_stock_sectors_are_eight() -> None:
    turn = np.full(720, np.inf, np.float32)
    turn[300:420] = 0.3  # 30 degrees to both sides: the two sectors of 37.5 degrees in the middle
    values = feature(Sensor.SECTOR_LIDAR, seen(scan=turn))
    assert values.tolist() == [[0, 0, 0, 1, 1, 0, 0, 0]]


def test_a_discretized_sector_says_in_which_band_something_is() -> None:
    config = LidarConfig(8, -90, 67.5, 0.1, max_distance=2, clipping_distance=2, num_sectors=2)
    near_right = [9, 9, 0.6, 9, 9, 9, 9, 9]
    assert feature(Sensor.DISCRETIZED_SECTOR_LIDAR, seen(scan=near_right), config).tolist() == [
        [0, 1, 0, 0, 0, 0, 0, 0]
    ]
    everywhere = [0.1, 0.1, 0.1, 0.1, 1.99, 1.99, 1.99, 1.99]
    values = feature(Sensor.DISCRETIZED_SECTOR_LIDAR, seen(scan=everywhere), config)
    assert values.tolist() == [[1, 0, 0, 0, 0, 0, 0, 1]]


@pytest.mark.parametrize("bands", range(1, 65))
def test_nothing_within_reach_is_in_no_band_however_it_rounds(bands: int) -> None:
    for reach in (0.1, 0.3, 0.7, 1.1, 2.3, 9.9):
        config = LidarConfig(bands, -150, 150, 0.05, reach, reach, 1)
        assert not feature(Sensor.DISCRETIZED_SECTOR_LIDAR, seen(scan=[math.inf] * 36), config).any()


ranges = arrays(
    np.float32, st.integers(1, 400), elements=st.floats(0, 12, width=32) | st.sampled_from([math.inf, math.nan, -1.0])
)


@st.composite
def configs(draw: st.DrawFn) -> LidarConfig:
    sectors, per_sector = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    low, high = sorted((draw(st.floats(-180, 180)), draw(st.floats(-180, 180))))
    reach = draw(st.floats(0.01, 100))
    nearest, clip = draw(st.floats(0, reach)), draw(st.floats(reach, 200))
    return LidarConfig(sectors * per_sector, low, high, nearest, reach, clip, sectors)


@given(ranges, configs(), st.sampled_from(SCANNERS))
def test_every_scan_gives_the_right_number_of_bounded_values(
    turn: NDArray[np.float32], config: LidarConfig, sensor: Sensor
) -> None:
    values = feature(sensor, seen(scan=turn), config)
    low, high = (config.min_distance, config.max_distance) if sensor is Sensor.LIDAR else (0, 1)
    assert values.shape == (1, config.num_sectors if sensor is Sensor.SECTOR_LIDAR else config.num_values)
    assert values.dtype == np.float32
    assert (values >= np.float32(low)).all(), astuple(config)
    assert (values <= np.float32(high)).all(), astuple(config)


@given(arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))))
def test_every_picture_gives_finite_grey_levels(image: NDArray[np.uint8]) -> None:
    values = feature(Sensor.FRONT_FACING_CAMERA, seen(Frame(0.0, image)))
    assert values.shape == (1, 120, 160, 1)
    assert ((values >= image.min()) & (values <= image.max())).all()
