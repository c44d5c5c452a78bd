"""What the cameras show where geometry says what they must show, in every batch the same."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sim_stub import track
from sim_stub.dynamics import YAW, X, Y
from sim_stub.scene import WALL_HEIGHT, Scene, from_above
from sim_stub.track import Track
from sim_stub.view import CARDBOARD, MONO, STEREO, Eye, Film, Lens, rgb

AHEAD, UP, PITCH = 0.1453, 0.1293, 0.2618
"""Where the camera of a car is, metres ahead of its origin and above the ground, and how far it looks down (rad)."""
FOCAL = 80 / np.tan(1.13 / 2)
HALF_ROAD, LINE = 0.7619 / 2, 0.0762

Floats = NDArray[np.float64]
Image = NDArray[np.uint8]


@pytest.fixture(scope="module")
def base() -> Track:
    return track.load("reinvent_base")


@pytest.fixture(scope="module")
def colour(base: Track) -> Eye:
    return Eye(Scene(base), MONO)


@pytest.fixture(scope="module")
def scene(base: Track) -> Scene:
    return Scene(base, planes=1, palettes=3, spread=0.7)


@pytest.fixture(scope="module")
def grey(scene: Scene) -> Eye:
    return Eye(scene, MONO)


def test_a_car_that_leans_back_turns_its_camera_about_its_origin(scene: Scene) -> None:
    lean, lens = 0.03, Lens()
    cos, sin = np.cos(lean), np.sin(lean)
    turned = Lens(ahead=lens.ahead * cos - lens.up * sin, up=lens.up * cos + lens.ahead * sin, pitch=lens.pitch - lean)
    leaning, level = Eye(scene, MONO, lean).look(standing(2.0)), Eye(scene, turned).look(standing(2.0))
    assert np.array_equal(leaning, level)
    assert (leaning != Eye(scene, MONO).look(standing(2.0))).mean() > 0.1


def standing(along: float, aside: float = 0.0, turned: float = 0.0) -> Floats:
    point, heading = track.load("reinvent_base").place(np.array([along]))
    normal = np.array([-np.sin(heading[0]), np.cos(heading[0])])
    state = np.zeros((1, 5))
    state[0, [X, Y]] = point[0] + aside * normal
    state[0, YAW] = heading[0] + turned
    return state


def pixel(ahead: float, left: float, height: float = 0.0) -> tuple[float, float]:
    """Row and column, counted from the picture's corner, at which a pinhole's own arithmetic puts a point."""
    x, z = ahead - AHEAD, height - UP
    depth = x * np.cos(PITCH) - z * np.sin(PITCH)
    down = -(x * np.sin(PITCH) + z * np.cos(PITCH))
    return 60 + FOCAL * down / depth, 80 - FOCAL * left / depth


def box(state: Floats, ahead: float, left: float, colour: float = rgb(CARDBOARD), height: float = 0.27) -> Floats:
    """float64[1, 1, 8]: a box 0.24 m long and 0.39 m wide that stands square before the car."""
    x, y, yaw = state[0, [X, Y, YAW]]
    place = (x + ahead * np.cos(yaw) - left * np.sin(yaw), y + ahead * np.sin(yaw) + left * np.cos(yaw), yaw)
    return np.array([[[*place, 0.12, 0.195, height, 0.0, colour]]])


def crowd(base: Track, batch: int, palettes: int = 3) -> tuple[Floats, Floats, Film]:
    """States, boxes and films of every kind."""
    rng = np.random.default_rng(5)
    state = np.concatenate([standing(along) for along in rng.uniform(0, base.length, batch)])
    state[:, YAW] += rng.normal(0, 0.6, batch)
    boxes = np.concatenate([box(state[k : k + 1], *rng.uniform((-0.5, -1), (3, 1))) for k in range(batch)])
    film = Film.neutral(batch)
    film.gain, film.lift = rng.uniform(0.6, 1.5, batch), rng.uniform(-30, 30, batch)
    film.blur, film.noise = rng.uniform(0, 1, batch), rng.uniform(0, 9, batch) * (np.arange(batch) % 2)
    film.seed, film.palette = rng.integers(2**63, size=batch).astype(np.uint64), rng.integers(palettes, size=batch)
    film.pitch, film.yaw, film.up, film.ahead, film.left = rng.normal(0, 0.02, (5, batch))
    film.glare = np.concatenate([state[:, None, :2] + 0.5, np.full((batch, 1, 2), (0.6, 90.0))], axis=2)
    return state, boxes, film


def rows_of(film: Film, rows: slice) -> Film:
    return Film(*(getattr(film, name)[rows] for name in Film.__slots__))


def test_pictures_have_the_shapes_that_cars_and_networks_take(colour: Eye, scene: Scene) -> None:
    state = np.repeat(standing(2.0), 3, axis=0)
    assert colour.look(state).shape == (3, 1, 120, 160, 3)
    assert Eye(scene, STEREO).look(state).shape == (3, 120, 160, 2)
    assert Eye(scene, Lens(width=80, height=60, samples=3)).look(state[:0]).shape == (0, 60, 80, 1)


def test_a_car_sees_in_a_batch_what_it_sees_alone(base: Track, scene: Scene) -> None:
    state, boxes, film = crowd(base, 256)
    frames = np.arange(256)
    alone, pair = Eye(scene, STEREO, threads=1), Eye(scene, STEREO, threads=2)
    together = pair.look(state, boxes, film, frames)
    assert np.array_equal(together, alone.look(state, boxes, film, frames))
    for size in (1, 7):
        for first in range(0, 21, size):
            rows = slice(first, first + size)
            seen = pair.look(state[rows], boxes[rows], rows_of(film, rows), frames[rows])
            assert np.array_equal(seen, together[rows])


@pytest.mark.parametrize("row", [110, 80, 55])
@pytest.mark.parametrize("side", [-1, 1])
def test_the_edge_of_the_line_stands_where_the_pinhole_puts_it(grey: Eye, row: int, side: int) -> None:
    aside = 0.22 * side
    slope = (row + 0.5 - 60) / FOCAL
    ahead = AHEAD + UP * (np.cos(PITCH) - slope * np.sin(PITCH)) / (np.sin(PITCH) + slope * np.cos(PITCH))
    assert pixel(ahead, 0.0)[0] == pytest.approx(row + 0.5)
    _, expected = pixel(ahead, side * (HALF_ROAD - LINE) - aside)
    profile = grey.look(standing(0.3, aside))[0, row, :, 0].astype(float)
    middle = round(expected)
    bright = np.clip((profile[middle - 5 : middle + 5] - 53) / (209.5 - 53), 0, 1).sum()
    # The road's grain moves it by up to a tenth.
    assert middle - side * (5 - bright) == pytest.approx(expected, abs=0.6)


def test_the_road_s_left_is_the_picture_s_left(colour: Eye) -> None:
    image = colour.look(standing(2.0, aside=-0.25))[0, 0].astype(int)
    white = (image.min(axis=2) > 170).nonzero()[1]
    assert abs(white - 160).min() < 40
    mirrored = colour.look(standing(2.0, aside=0.25))[0, 0].astype(int)
    assert (mirrored.min(axis=2) > 170).nonzero()[1].min() < 40


@pytest.mark.parametrize("turned", [0.0, 0.8, 2.0, -2.3])
def test_walls_and_sky_are_where_rays_meet_them(scene: Scene, turned: float) -> None:
    state = standing(2.0, turned=turned)
    image = Eye(scene, Lens(samples=1)).look(state)[0, ..., 0]
    x, y, yaw = state[0, [X, Y, YAW]]
    v, u = np.meshgrid((np.arange(120) - 59.5) / FOCAL, (np.arange(160) - 79.5) / FOCAL, indexing="ij")
    ahead, up = np.cos(PITCH) - np.sin(PITCH) * v, -np.sin(PITCH) - np.cos(PITCH) * v
    dx, dy = ahead * np.cos(yaw) + u * np.sin(yaw), ahead * np.sin(yaw) - u * np.cos(yaw)
    eye_x, eye_y = x + AHEAD * np.cos(yaw), y + AHEAD * np.sin(yaw)
    x_low, y_low, x_high, y_high = scene.extent
    to_x, to_y = (
        np.where(dx > 0, x_high - eye_x, x_low - eye_x) / dx,
        np.where(dy > 0, y_high - eye_y, y_low - eye_y) / dy,
    )
    west, east, south, north, sky = scene.plain[0, 0]
    wall = np.where(to_x < to_y, np.where(dx > 0, east, west), np.where(dy > 0, north, south))
    height = UP + up * np.minimum(to_x, to_y)
    expected = np.where(height > WALL_HEIGHT, sky, wall)
    seen = height > 0.005
    assert seen.sum() > 3000
    assert (image[seen] != expected[seen]).mean() < 0.01


def test_a_lens_further_left_sees_a_box_further_right_by_focal_baseline_over_depth(scene: Scene) -> None:
    state = standing(2.0)
    eye = Eye(scene, STEREO)
    for ahead in (1.0, 1.5, 2.5):
        empty, full = (eye.look(state, boxes)[0].astype(float) for boxes in (None, box(state, ahead, 0.0, height=0.5)))
        depth = (ahead - 0.12 - AHEAD) * np.cos(PITCH)
        row = int(60 - FOCAL * np.tan(PITCH))
        weights = np.abs(full - empty)[row] > 0
        centres = [np.average(np.arange(160), weights=weights[:, camera]) for camera in (0, 1)]
        assert centres[0] - centres[1] == pytest.approx(FOCAL * 0.06 / depth, abs=1.0)


def test_the_nearer_box_hides_the_farther_whatever_their_order(colour: Eye) -> None:
    state = standing(2.0)
    near, far = box(state, 0.9, 0.0, rgb((250, 0, 0)), height=0.1), box(state, 1.5, 0.1, rgb((0, 0, 250)), 0.5)
    both = colour.look(state, np.concatenate([near, far], axis=1))
    assert np.array_equal(both, colour.look(state, np.concatenate([far, near], axis=1)))
    only = colour.look(state, near)[0, 0]
    changed = (only != colour.look(state)[0, 0]).any(axis=2)
    red = cv2.erode(changed.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert np.array_equal(both[0, 0][red], only[red])
    blue = both[0, 0, ..., 0].astype(int) - both[0, 0, ..., 2] > 60
    assert 500 < blue.sum() < (colour.look(state, far)[0, 0, ..., 0].astype(int) - both[0, 0, ..., 1] > 60).sum()
    assert not (blue & red).any()


def test_a_box_covers_the_pixels_of_its_face(colour: Eye) -> None:
    state = standing(2.0)
    changed = (colour.look(state, box(state, 1.0, 0.1)) != colour.look(state)).any(axis=4)[0, 0]
    top, left = pixel(0.88, 0.295, 0.27)
    bottom, right = pixel(0.88, -0.095, 0.0)
    rows, columns = changed.nonzero()
    assert rows.max() + 1 == pytest.approx(bottom, abs=1.0)
    assert (columns.min(), columns.max() + 1) == (pytest.approx(left, abs=3.0), pytest.approx(right, abs=3.0))
    assert max(0, top) <= rows.min() + 1


@pytest.mark.parametrize("ahead", [-0.3, -5.0])
def test_a_box_behind_the_camera_draws_nothing(grey: Eye, ahead: float) -> None:
    state = standing(2.0)
    assert np.array_equal(grey.look(state, box(state, ahead, 0.0)), grey.look(state))


def test_a_box_beside_the_camera_is_cut_by_nothing_but_the_picture(grey: Eye) -> None:
    state = standing(2.0)
    long = box(state, 0.2, 0.3, rgb((255, 0, 255)))
    long[..., 3], long[..., 4] = 1.0, 0.1
    changed = (grey.look(state, long) != grey.look(state))[0, ..., 0]
    assert changed[:75, 0].all()
    assert not changed[:, 100:].any()


@pytest.mark.parametrize("height", [0.0, np.nan])
def test_an_absent_box_draws_nothing(grey: Eye, height: float) -> None:
    state = standing(2.0)
    assert np.array_equal(grey.look(state, box(state, 1.0, 0.0, height=height)), grey.look(state))


def test_gain_and_lift_are_exact(grey: Eye) -> None:
    state, film = standing(2.0), Film.neutral(1)
    film.gain[:], film.lift[:] = 1.25, -20.0
    expected = np.clip(np.floor(grey.look(state) * 1.25 - 20 + 0.5), 0, 255)
    assert np.array_equal(grey.look(state, film=film), expected)


def test_noise_has_its_mean_and_spread_and_is_new_in_each_frame(grey: Eye) -> None:
    state, film = np.repeat(standing(2.0), 2, axis=0), Film.neutral(2)
    film.noise[:], film.lift[:], film.gain[:], film.seed[:] = 10.0, 128.0, 0.0, (1, 2)
    first, second = (grey.look(state, film=film, frame=frame).astype(float) for frame in (7, 8))
    assert first.mean(axis=(1, 2, 3)) == pytest.approx([128, 128], abs=0.3)
    assert first.std(axis=(1, 2, 3)) == pytest.approx([10, 10], abs=0.2)
    pairs = (
        (first[0], first[1]),
        (first[0], second[0]),
        (first[0, 1:], first[0, :-1]),
        (first[0, :, 1:], first[0, :, :-1]),
    )
    for one, other in pairs:
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.03


def test_blur_keeps_the_mean_and_softens(grey: Eye) -> None:
    state, film = standing(2.0), Film.neutral(1)
    sharp = grey.look(state).astype(float)[0, ..., 0]
    film.blur[:] = 1.0
    soft = grey.look(state, film=film).astype(float)[0, ..., 0]
    assert soft.mean() == pytest.approx(sharp.mean(), abs=0.3)
    kernel = np.array([1, 4, 6, 4, 1]) / 16
    assert np.abs(soft - cv2.sepFilter2D(sharp, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)).max() <= 0.51


def test_errors_of_the_mounting_are_those_of_another_lens(scene: Scene) -> None:
    state, film = standing(2.0), Film.neutral(1)
    film.pitch[:], film.left[:] = 0.03, 0.02
    expected = Eye(scene, Lens(pitch=Lens().pitch + 0.03, left=0.02)).look(state).astype(int)
    assert np.abs(Eye(scene, MONO).look(state, film=film) - expected).mean() < 0.01


def test_light_on_the_ground_is_there_and_nowhere_else_and_not_on_boxes(grey: Eye) -> None:
    state, film = standing(2.0), Film.neutral(1)
    ahead = np.array([np.cos(state[0, YAW]), np.sin(state[0, YAW])])
    film.glare = np.array([[[*(state[0, [X, Y]] + 0.8 * ahead), 0.15, 80.0]]])
    more = (grey.look(state, film=film).astype(int) - grey.look(state))[0, ..., 0]
    row, column = pixel(0.8, 0.0)
    assert more[int(row), int(column)] == pytest.approx(80, abs=2)
    assert more.min() >= 0
    rows, columns = (more > 1).nonzero()
    for found, distance in ((rows.max(), 0.65), (rows.min(), 0.95)):
        assert found == pytest.approx(pixel(distance, 0.0)[0], abs=1.5)
    assert (columns.max() - columns.min()) == pytest.approx(2 * FOCAL * 0.15 / 0.68, abs=4)
    hidden = box(state, 0.6, 0.0, height=0.5)
    assert np.array_equal(grey.look(state, hidden, film)[0, :80], grey.look(state, hidden)[0, :80])


def test_pictures_are_written_where_they_are_wanted(grey: Eye, colour: Eye) -> None:
    state = np.repeat(standing(2.0), 2, axis=0)
    room = np.zeros((4, 120, 160, 1), np.uint8)
    assert grey.look(state, out=room[::2]).base is room
    assert np.array_equal(room[::2], grey.look(state))
    assert not room[1::2].any()
    wide = np.zeros((2, 1, 120, 320, 3), np.uint8)
    colour.look(state, out=wide[..., 160:, :])
    assert np.array_equal(wide[..., 160:, :], colour.look(state))
    with pytest.raises(ValueError, match="uint8"):
        grey.look(state, out=np.zeros((2, 120, 160), np.uint8))


def test_what_does_not_fit_is_refused(grey: Eye) -> None:
    film = Film.neutral(1)
    film.palette[:] = 3
    with pytest.raises(ValueError, match="3 palettes"):
        grey.look(standing(2.0), film=film)
    with pytest.raises(ValueError, match="a row for each"):
        grey.look(standing(2.0), film=Film.neutral(2))
    with pytest.raises(ValueError, match="one size"):
        Eye(grey.scene, (Lens(), Lens(width=80)))


def test_palettes_are_other_worlds_of_the_same_kind_and_the_same_each_time(base: Track, scene: Scene) -> None:
    again = Scene(base, planes=1, palettes=2, spread=0.7)
    assert np.array_equal(again.texels, scene.texels[:2])
    assert np.array_equal(Scene(base, planes=1).texels[0], scene.texels[0])
    assert not np.array_equal(Scene(base, planes=1, seed=1).texels[0], scene.texels[0])
    state, film = np.repeat(standing(2.0), 3, axis=0), Film.neutral(3)
    film.palette[:] = (0, 1, 2)
    images = Eye(scene, MONO).look(state, film=film)[..., 0].astype(float)
    for image in images:
        assert image[100, 30] < image.max() - 40
    assert np.abs(images[0] - images[1]).mean() > 5
    assert np.abs(images[2] - images[1]).mean() > 5


def test_grey_is_the_grey_of_the_colours(grey: Eye, colour: Eye) -> None:
    state = standing(2.0)
    boxes = box(state, 1.0, 0.2)
    converted = cv2.cvtColor(colour.look(state, boxes)[0, 0], cv2.COLOR_BGR2GRAY).astype(float)
    assert np.abs(converted - grey.look(state, boxes)[0, ..., 0]).mean() < 1.0


def test_a_long_track_can_be_seen_as_well_as_a_short_one(base: Track) -> None:
    long = Track("long", "Long", 5 * base.centre, 5 * base.inner, 5 * base.outer)
    assert long.length > 88
    world = Scene(long, planes=1)
    assert 10e6 < world.memory < 60e6
    state = np.zeros((2, 3))
    place, state[:, YAW] = long.place(np.array([1.0, 60.0]))
    state[:, [X, Y]] = place
    images = Eye(world, MONO).look(state)[..., 0]
    assert (images[:, 100, 20] < 90).all()
    assert (images[:, 60:] > 130).any(axis=(1, 2)).all()


def test_the_texels_of_an_enormous_ground_grow(base: Track) -> None:
    vast = Track("vast", "Vast", 50 * base.centre, 50 * base.inner, 50 * base.outer)
    world = Scene(vast, planes=1)
    assert max(world.size) < 32768
    assert world.memory < 150e6


def test_from_above_every_point_is_where_the_affine_says(base: Track) -> None:
    image, to_pixel = from_above(Scene(base, planes=1), (900, 600))
    assert image.shape[1] == 900 or image.shape[0] == 600
    quarters = base.centre[:-1] + 0.3 * (base.inner - base.centre)[:-1]
    columns, rows = np.rint(to_pixel @ np.vstack([quarters.T, np.ones(len(quarters))])).astype(int)
    assert np.abs(image[rows, columns].astype(int) - base.colours.road[::-1]).max() < 30
    borders = base.outer + 0.05 * (base.centre - base.outer) / 0.381
    columns, rows = np.rint(to_pixel @ np.vstack([borders.T, np.ones(len(borders))])).astype(int)
    assert (image[rows, columns].min(axis=1) > 150).mean() > 0.95


@pytest.mark.parametrize("place", [(1e4, 0.0), (-1e4, 1e4), (0.0, 0.0), (1e200, 0.0), (np.nan, 0.0)])
def test_from_anywhere_there_is_a_picture(grey: Eye, place: tuple[float, float]) -> None:
    state = np.zeros((1, 5))
    state[0, [X, Y]] = place
    assert grey.look(state).shape == (1, 120, 160, 1)
