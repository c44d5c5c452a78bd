"""What the camera shows where geometry says what it must show."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sim_stub import track
from sim_stub.dynamics import YAW, X, Y
from sim_stub.view import RIDE_HEIGHT, Eye, Lens, Scene

LENS = Lens()


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(track.load("reinvent_base"))


@pytest.fixture(scope="module")
def eye(scene: Scene) -> Eye:
    return Eye(scene, LENS)


def standing(along: float, aside: float = 0.0, turned: float = 0.0) -> np.ndarray:
    point, heading = track.load("reinvent_base").place(np.array([along]))
    normal = np.array([-np.sin(heading[0]), np.cos(heading[0])])
    state = np.zeros((1, 5))
    state[0, [X, Y]] = point[0] + aside * normal
    state[0, YAW] = heading[0] + turned
    return state


def column_of(ahead: float, left: float) -> tuple[float, float]:
    """Row and column at which a point of the ground must appear, by a pinhole's own arithmetic."""
    x, z = ahead - LENS.ahead, -(LENS.up + RIDE_HEIGHT)
    depth = x * np.cos(LENS.pitch) - z * np.sin(LENS.pitch)
    down = -(x * np.sin(LENS.pitch) + z * np.cos(LENS.pitch))
    focal = LENS.width / 2 / np.tan(LENS.field_of_view / 2)
    return LENS.height / 2 + focal * down / depth, LENS.width / 2 - focal * left / depth


def test_a_picture_is_bgr_of_the_lens_size(eye: Eye) -> None:
    image = eye.look(np.repeat(standing(2.0), 3, axis=0))
    assert image.shape == (3, 120, 160, 3)
    assert image.dtype == np.uint8
    assert np.array_equal(image[0], image[2])


@pytest.mark.parametrize("ahead", [0.5, 0.8, 1.2])
def test_the_white_lines_stand_where_the_pinhole_puts_them(eye: Eye, ahead: float) -> None:
    half = 0.7619 / 2
    grey = cv2.cvtColor(eye.look(standing(2.0))[0], cv2.COLOR_BGR2GRAY).astype(int)
    row, left = column_of(ahead, half - 0.0381)
    assert grey[round(row), max(0, round(left - 0.5))] > 150 or left < 0
    row, right = column_of(ahead, -half + 0.0381)
    assert grey[round(row), min(159, round(right - 0.5))] > 150 or right > 159
    _, inside = column_of(ahead, half / 2)
    assert grey[round(row), round(inside)] < 90


def test_the_road_s_left_is_the_picture_s_left(eye: Eye) -> None:
    image = eye.look(standing(2.0, aside=-0.25))[0].astype(int)
    white = (image.min(axis=2) > 170).nonzero()[1]
    assert abs(white - 160).min() < 40
    mirrored = eye.look(standing(2.0, aside=0.25))[0].astype(int)
    assert (mirrored.min(axis=2) > 170).nonzero()[1].min() < 40


def test_above_the_horizon_there_is_no_ground(eye: Eye) -> None:
    image = eye.look(standing(2.0))[0]
    horizon = LENS.height / 2 - LENS.width / 2 / np.tan(LENS.field_of_view / 2) * np.tan(LENS.pitch)
    above = image[: int(horizon) - 1].reshape(-1, 3)
    assert len(np.unique(above, axis=0)) <= 6


def test_a_lens_further_left_sees_the_world_further_right(scene: Scene) -> None:
    left, right = (Eye(scene, Lens(left=side)) for side in (0.03, -0.03))
    state = standing(2.0)
    dashes = [
        np.clip(eye.look(state)[0, ..., 2].astype(float) - eye.look(state)[0, ..., 0], 0, None) for eye in (left, right)
    ]
    columns = [np.average(np.arange(160), weights=orange[60:].sum(axis=0)) for orange in dashes]
    assert columns[0] > columns[1] + 3


def test_the_same_seed_paints_the_same_world() -> None:
    road = track.load("Oval_track")
    assert np.array_equal(Scene(road, seed=3).texels, Scene(road, seed=3).texels)
    assert not np.array_equal(Scene(road, seed=3).texels, Scene(road, seed=4).texels)


@pytest.mark.parametrize("place", [(1e4, 0.0), (-1e4, 1e4), (0.0, 0.0)])
def test_from_anywhere_there_is_a_picture(eye: Eye, place: tuple[float, float]) -> None:
    state = np.zeros((1, 5))
    state[0, [X, Y]] = place
    assert eye.look(state).shape == (1, 120, 160, 3)
