"""Observation -> a network's inputs: the one copy, used by the car, the evaluator and the trainer alike."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.signals import Frame, LidarScan, Observation
from inference.package import LIDAR_DEFAULTS, LidarConfig, Sensor

WIDTH: Final = 160
HEIGHT: Final = 120


class SensorMissing(ValueError):
    """The observation lacks what the sensor needs; the message says what."""


def feature(
    sensor: Sensor, observation: Observation, lidar: LidarConfig | None = None, size: tuple[int, int] = (WIDTH, HEIGHT)
) -> NDArray[np.float32]:
    """The input of one sensor, batch axis first, as the network was trained on it.

    Cameras: float32[1, height, width, channels] of grey 0..255; the left one first. LiDAR: float32[1, n] metres,
    or 0 and 1. Raises SensorMissing.
    """
    if sensor.is_lidar:
        if observation.scan is None:
            raise SensorMissing(f"The model needs {sensor.value}, and the car sees no LiDAR.")
        return _scan(sensor, observation.scan, lidar or LIDAR_DEFAULTS[sensor])[None]
    if len(observation.frames) < sensor.cameras:
        raise SensorMissing(f"The model needs {sensor.value}, and the car sees {len(observation.frames)} picture(s).")
    greys = [grey(frame, size) for frame in observation.frames[: sensor.cameras]]
    return np.stack(greys, axis=-1)[None]


def grey(frame: Frame, size: tuple[int, int] = (WIDTH, HEIGHT)) -> NDArray[np.float32]:
    """float32[height, width], 0..255: scaled bilinearly to `size` (width, height), weighted .299 R .587 G .114 B."""
    image = frame.image
    if image.shape[1::-1] != size:
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32)


def _scan(sensor: Sensor, scan: LidarScan, config: LidarConfig) -> NDArray[np.float32]:
    return encode(sensor, resample(scan, config), config)


def encode(sensor: Sensor, values: NDArray[np.float32], config: LidarConfig) -> NDArray[np.float32]:
    """float32[..., m]: what the network of `sensor` gets of clipped distances [..., num_values], for any batch axes."""
    if sensor is Sensor.LIDAR:
        return values
    reach = min(config.max_distance, config.clipping_distance)
    nearest = values.reshape(*values.shape[:-1], config.num_sectors, -1).min(axis=-1)
    if sensor is Sensor.SECTOR_LIDAR:
        return np.asarray(nearest < reach, np.float32)
    # One column for each of the distance bands, and none for "nothing within reach".
    bands = config.num_values // config.num_sectors
    band = np.where(nearest < reach, np.floor(nearest / (reach / bands)).clip(0, bands - 1), bands)
    hot = band[..., None] == np.arange(bands)
    return np.asarray(hot, np.float32).reshape(*values.shape[:-1], -1)


def resample(scan: LidarScan, config: LidarConfig) -> NDArray[np.float32]:
    """float32[num_values] metres from min_angle to max_angle, interpolated linearly.

    What lies nearer than min_distance counts as there; what answers not, or beyond the reach, counts as at the reach.
    """
    reach = min(config.max_distance, config.clipping_distance)
    angles = -180.0 + 360.0 * np.arange(len(scan.ranges)) / max(len(scan.ranges), 1)
    inside = (angles >= config.min_angle) & (angles <= config.max_angle)
    ranges = np.nan_to_num(scan.ranges[inside].astype(np.float64), nan=reach, posinf=reach, neginf=reach)
    ranges, angles = np.clip(ranges, config.min_distance, reach), angles[inside]
    if not len(angles) or angles[0] > config.min_angle:
        angles, ranges = np.r_[config.min_angle, angles], np.r_[reach, ranges]
    if angles[-1] < config.max_angle:
        angles, ranges = np.r_[angles, config.max_angle], np.r_[ranges, reach]
    wanted = np.linspace(config.min_angle, config.max_angle, config.num_values)
    return np.interp(wanted, angles, ranges).astype(np.float32)
