"""What the front camera sees: the painted ground, the walls of the field and the sky; pure, for a batch of cars.

The ground is a pyramid of textures. The camera is fixed to the car, so that where its rays meet the ground is worked
out once, in the car's frame, with the level of the pyramid that fits the ground under each ray; a picture is then a
rotation, a shift and one look-up a ray.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from sim_stub.dynamics import YAW, State, X, Y
from sim_stub.track import RGB, Track

Image: TypeAlias = NDArray[np.uint8]

RIDE_HEIGHT: Final = 0.0203
"""Metres from the ground to the car's origin: wheel radius less the height of the axle above the origin."""
LINE_WIDTH: Final = 0.0762
DASH_LENGTH: Final = 0.0508
DASH_WIDTH: Final = 0.0254
DASH_PITCH: Final = 0.1017
FIELD_MARGIN: Final = 0.762
"""Metres of field around the road's bounding box."""
WALL_HEIGHT: Final = 1.0
WALL_SHADES: Final = (0.42, 0.25)
"""Light on the walls that stand across x and across y, read off frames of the original simulator."""
GRAIN: Final = 6.0
"""Standard deviation of the ground's texture, grey levels."""
TEXEL: Final = 0.005
"""Metres of ground a side of a texel, at the finest level."""
LEVELS: Final = 6


@dataclass(frozen=True, slots=True)
class Lens:
    """A pinhole camera on the car: metres from the car's origin, radians; pitch is positive downwards.

    `samples` are rays a pixel along each axis.
    """

    width: int = 160
    height: int = 120
    field_of_view: float = 1.13
    ahead: float = 0.14529379
    left: float = 0.0
    up: float = 0.13032555
    pitch: float = 0.2618
    samples: int = 2


class Scene:
    """The painted world of one track, shared by every eye that looks at it. The same seed paints the same grain."""

    def __init__(self, track: Track, seed: int = 0) -> None:
        self.low = np.array(track.bounds[:2]) - FIELD_MARGIN
        self.high = np.array(track.bounds[2:]) + FIELD_MARGIN
        self.walls = tuple(_pack(track.colours.wall, shade) for shade in WALL_SHADES)
        self.sky = _pack(track.colours.sky)
        levels = [_framed(image, track.colours.wall) for image in _pyramid(self._paint(track, seed))]
        self.shapes = np.array([level.shape for level in levels])
        self.offsets = np.concatenate([[0], np.cumsum([level.size for level in levels])[:-1]])
        self.texels = np.concatenate([level.ravel() for level in levels])

    def _paint(self, track: Track, seed: int) -> Image:
        """The ground from above, BGR, row 0 at the smallest y."""
        columns, rows = np.ceil((self.high - self.low) / TEXEL).astype(int)
        ground = np.full((rows, columns, 3), _bgr(track.colours.field), np.uint8)
        self._fill(ground, _rings(track.road), track.colours.line)
        self._fill(ground, _rings(track.road.buffer(-LINE_WIDTH)), track.colours.road)
        middle, heading = track.place(np.arange(0, track.length - DASH_PITCH / 2, DASH_PITCH))
        ahead = np.stack([np.cos(heading), np.sin(heading)], axis=1) * DASH_LENGTH / 2
        aside = np.stack([-np.sin(heading), np.cos(heading)], axis=1) * DASH_WIDTH / 2
        corners = (middle + ahead + aside, middle + ahead - aside, middle - ahead - aside, middle - ahead + aside)
        for dash in np.stack(corners, axis=1):
            self._fill(ground, [dash], track.colours.dash)
        grain = np.random.default_rng(seed).normal(0, GRAIN, (rows, columns, 1)).astype(np.float32)
        return np.clip(ground + grain, 0, 255).astype(np.uint8)

    def _fill(self, ground: Image, rings: Iterable[NDArray[np.float64]], colour: RGB) -> None:
        fixed_point = 8
        corners = [np.round(((ring - self.low) / TEXEL - 0.5) * (1 << fixed_point)).astype(np.int32) for ring in rings]
        cv2.fillPoly(ground, corners, _bgr(colour), cv2.LINE_AA, fixed_point)


class Eye:
    """A lens that looks at one scene."""

    def __init__(self, scene: Scene, lens: Lens) -> None:
        self.scene, self.lens = scene, lens
        self._height = lens.up + RIDE_HEIGHT
        ahead, left, up = _rays(lens)
        self._horizon = int(np.count_nonzero(up[:, 0] > -1e-4))
        above, below = slice(None, self._horizon), slice(self._horizon, None)
        self._sky = tuple(part[above].astype(np.float32) for part in (ahead, left, up))
        reach = self._height / -up[below]
        self._ground_x = (lens.ahead + reach * ahead[below]).astype(np.float32)
        self._ground_y = (lens.left + reach * left[below]).astype(np.float32)
        # A ray stands for a patch of ground, long along the view and narrow across; the level takes its mean side.
        across = reach / _focal(lens)
        along = across * reach * np.hypot(ahead, up)[below] / self._height
        finest = np.log2(np.sqrt(along * across) / TEXEL)
        level = np.clip(np.round(finest), 0, LEVELS - 1).astype(np.intp)
        rows, columns = (scene.shapes[:, axis] for axis in (0, 1))
        size_x, size_y = scene.high - scene.low
        self._scale_x = ((columns - 2) / size_x)[level].astype(np.float32)
        self._scale_y = ((rows - 2) / size_y)[level].astype(np.float32)
        self._last_column = (columns - 1)[level].astype(np.float32)
        self._last_row = (rows - 1)[level].astype(np.float32)
        self._stride = columns[level].astype(np.int32)
        self._offset = scene.offsets[level].astype(np.int32)

    def look(self, state: State) -> Image:
        """uint8[batch, height, width, 3], BGR: what each car sees."""
        return np.stack([self._look(*row) for row in state[:, [X, Y, YAW]].tolist()])

    def _look(self, x: float, y: float, yaw: float) -> Image:
        n, lens = self.lens.samples, self.lens
        cos, sin = np.float32(np.cos(yaw)), np.float32(np.sin(yaw))
        fine = np.empty((lens.height * n, lens.width * n), np.uint32)
        fine[: self._horizon] = self._above(x, y, cos, sin)
        fine[self._horizon :] = self._below(x, y, cos, sin)
        pixels = fine.view(np.uint8).reshape(*fine.shape, 4)
        return cv2.resize(pixels, (lens.width, lens.height), interpolation=cv2.INTER_AREA)[..., :3].astype(np.uint8)

    def _below(self, x: float, y: float, cos: np.float32, sin: np.float32) -> NDArray[np.uint32]:
        """Rays that fall to the ground; beyond the field stands a frame of wall in every texture."""
        x0, y0 = np.float32(x - self.scene.low[0]), np.float32(y - self.scene.low[1])
        column = (self._ground_x * cos - self._ground_y * sin + x0) * self._scale_x + np.float32(1)
        row = (self._ground_x * sin + self._ground_y * cos + y0) * self._scale_y + np.float32(1)
        column = np.clip(column, 0, self._last_column, out=column).astype(np.int32)
        row = np.clip(row, 0, self._last_row, out=row).astype(np.int32)
        seen: NDArray[np.uint32] = self.scene.texels[row * self._stride + column + self._offset]
        return seen

    def _above(self, x: float, y: float, cos: np.float32, sin: np.float32) -> NDArray[np.uint32]:
        """Rays that rise: they meet a wall, or pass above it."""
        ahead, left, up = self._sky
        dx, dy = ahead * cos - left * sin, ahead * sin + left * cos
        eye_x = x + float(cos) * self.lens.ahead - float(sin) * self.lens.left
        eye_y = y + float(sin) * self.lens.ahead + float(cos) * self.lens.left
        (x_low, y_low), (x_high, y_high) = self.scene.low, self.scene.high
        with np.errstate(divide="ignore"):
            to_x = np.where(dx > 0, x_high - eye_x, x_low - eye_x) / dx
            to_y = np.where(dy > 0, y_high - eye_y, y_low - eye_y) / dy
        wall = np.where(to_x < to_y, *self.scene.walls)
        return np.where(self._height + up * np.minimum(to_x, to_y) > WALL_HEIGHT, self.scene.sky, wall)


def _focal(lens: Lens) -> float:
    """Focal length in rays."""
    return float(lens.width * lens.samples / 2 / np.tan(lens.field_of_view / 2))


def _rays(lens: Lens) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Directions ahead, left and up in the car's frame, float64[height * samples, width * samples] each."""
    rows, columns = lens.height * lens.samples, lens.width * lens.samples
    v, u = np.meshgrid(np.arange(rows) + 0.5 - rows / 2, np.arange(columns) + 0.5 - columns / 2, indexing="ij")
    v, u = v / _focal(lens), u / _focal(lens)
    cos, sin = np.cos(lens.pitch), np.sin(lens.pitch)
    return cos - sin * v, -u, -sin - cos * v


def _pyramid(finest: Image) -> list[Image]:
    rows, columns = finest.shape[:2]
    sizes = [(max(1, columns >> level), max(1, rows >> level)) for level in range(1, LEVELS)]
    return [finest, *(cv2.resize(finest, size, interpolation=cv2.INTER_AREA).astype(np.uint8) for size in sizes)]


def _framed(image: Image, wall: RGB) -> NDArray[np.uint32]:
    """The texture packed into one word a texel, within a frame of wall one texel wide."""
    packed = np.full((image.shape[0] + 2, image.shape[1] + 2), _pack(wall, WALL_SHADES[0]), np.uint32)
    packed[[0, -1]] = _pack(wall, WALL_SHADES[1])
    packed[1:-1, 1:-1] = cv2.cvtColor(image, cv2.COLOR_BGR2BGRA).view(np.uint32)[..., 0]
    return packed


def _rings(area: shapely.Geometry) -> list[NDArray[np.float64]]:
    return [shapely.get_coordinates(ring) for ring in shapely.get_rings(area)]


def _bgr(colour: RGB, shade: float = 1.0) -> tuple[int, int, int]:
    red, green, blue = (round(part * shade) for part in colour)
    return blue, green, red


def _pack(colour: RGB, shade: float = 1.0) -> np.uint32:
    return np.uint32(np.array([*_bgr(colour, shade), 255], np.uint8).view(np.uint32)[0])
