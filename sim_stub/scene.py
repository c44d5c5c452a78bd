"""The painted world of a track: its ground as textures, its walls and its sky, in one or many palettes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Final, TypeAlias

import cv2
import numpy as np
import shapely
from numba import njit
from numpy.typing import NDArray

from sim_stub.raster import STRIP_BITS
from sim_stub.track import RGB, Colours, Track

Image: TypeAlias = NDArray[np.uint8]
Floats: TypeAlias = NDArray[np.float64]

LINE_WIDTH: Final = 0.0762
DASH_LENGTH: Final = 0.0508
DASH_WIDTH: Final = 0.0254
DASH_PITCH: Final = 0.1017
WALL_HEIGHT: Final = 0.97
"""How far the walls, 1 m high, stand out of the ground, read off a frame of the original simulator."""
WALL_SHADES: Final = (0.213, 0.396, 0.025, 0.337)
"""Light on the insides of the walls at x low, x high, y low and y high, read off frames of the original simulator."""
GRAIN: Final = 4.0
"""Standard deviation of the ground's texture, grey levels: the road of the original simulator, near and far."""
TEXEL: Final = 0.005
"""Metres of ground a side of a texel at the finest level, unless the ground is enormous."""
WIDEST: Final = 32_000
"""Texels that a ground may be long before they grow: raster counts them in 15 bits."""
MOST: Final = 100e6
"""Texels that a ground may have before they grow."""
LEVELS: Final = 6
STRIP: Final = 1 << STRIP_BITS
"""Texels across a strip: see STRIP_BITS."""
BLEED: Final = 0.64
"""How far beyond a polygon's edge OpenCV's smooth filling reaches, in texels, by area."""
GREY: Final = np.array([0.299, 0.587, 0.114])
"""What red, green and blue weigh in grey."""


class Scene:
    """The painted world of one track, shared by every eye that looks at it; a pure function of its arguments.

    `planes` is 1 for grey or 3 for BGR. Palette 0 has the track's own colours; each further one other colours of the
    same kind under a coloured light, the more unlike the first the larger `spread` (0..1).

    `texels` uint8[palettes, planes, n] is a pyramid of LEVELS textures in strips, each half as fine as the one before;
    `levels` int64[LEVELS, 2] tells where in it a level starts, and by how much its strips are longer than wide, in
    texels. `extent` float64[4] are the field's edges: x low, y low, x high, y high (m); `scale` float64[2] are the
    texels a metre along x and y and `size` all the texels, of the finest level. `plain` uint8[palettes, planes, 5] are
    the colours of the four walls (see WALL_SHADES) and of the sky; `tint` float64[palettes, planes, 3] turns the RGB of
    a thing (0..255) into its planes in the light of a palette.
    """

    def __init__(self, track: Track, seed: int = 0, planes: int = 3, palettes: int = 1, spread: float = 0.0) -> None:
        self.track, self.seed, self.planes = track, seed, planes
        self.extent = np.array(track.field)
        size = self.extent[2:] - self.extent[:2]
        coarsest = 1 << (LEVELS - 1)
        texel = max(TEXEL, float(size.max()) / WIDEST, float(np.sqrt(size.prod() / MOST)))
        columns, rows = (np.ceil(size / texel / coarsest) * coarsest).astype(int).tolist()
        self.scale = np.array([columns, rows]) / size
        self.size = (columns, rows)
        sizes = [(rows >> level, columns >> level) for level in range(LEVELS)]
        strips = [(-(-wide // STRIP), 2 * STRIP * (high // STRIP // 2) + 3 * STRIP) for high, wide in sizes]
        ends = np.cumsum([STRIP * wide * high for wide, high in strips])
        self.levels = np.array(
            [[end - STRIP * wide * high, STRIP * (high - 1)] for end, (wide, high) in zip(ends, strips, strict=True)]
        )
        self.texels = np.empty((palettes, planes, int(ends[-1])), np.uint8)
        self.plain = np.empty((palettes, planes, 5), np.uint8)
        self.tint = np.empty((palettes, planes, 3))
        covers = _covers(track, self.extent, (columns, rows))
        for palette in range(palettes):
            rng = np.random.default_rng((seed, palette))
            colours, light = track.colours, np.ones(3)
            if palette:
                colours = _repaint(track.colours, spread, rng)
                light = rng.uniform(1 - 0.8 * spread, 1, 3)
            self.tint[palette] = _tint(planes, light)
            paints = self.tint[palette] @ _surfaces(colours).T
            self.plain[palette] = np.clip(np.rint(self.tint[palette] @ _backdrop(colours).T), 0, 255)
            grain = (GRAIN * rng.standard_normal((512, 512), np.float32)).astype(np.float32)
            for plane in range(planes):
                ground = np.empty((rows, columns), np.uint8)
                _paint(covers, paints[plane].astype(np.float32), grain, ground)
                self._store(self.texels[palette, plane], ground)

    @property
    def memory(self) -> int:
        """Bytes of texture."""
        return self.texels.nbytes

    def _store(self, texels: Image, ground: Image) -> None:
        for level, (start, skip) in enumerate(self.levels.tolist()):
            if level:
                half = (ground.shape[1] // 2, ground.shape[0] // 2)
                ground = cv2.resize(ground, half, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
            wide, high = -(-ground.shape[1] // STRIP), skip // STRIP + 1
            padding = ((0, high - ground.shape[0]), (0, wide * STRIP - ground.shape[1]))
            strips = np.pad(ground, padding, mode="edge").reshape(high, wide, STRIP).transpose(1, 0, 2)
            texels[start : start + strips.size].reshape(wide, high, STRIP)[:] = strips


def from_above(scene: Scene, size: tuple[int, int]) -> tuple[Image, Floats]:
    """The field from above in the track's own colours: BGR, at most `size` = (width, height) large, y upwards.

    With it comes float64[2, 3], the affine that takes a point (x, y, 1) of the world (m) to its (column, row).
    """
    x_low, y_low, x_high, y_high = scene.extent
    scale = min(size[0] / (x_high - x_low), size[1] / (y_high - y_low))
    shape = (max(1, int(scale * (x_high - x_low))), max(1, int(scale * (y_high - y_low))))
    covers = _covers(scene.track, scene.extent, shape)
    image = np.empty((shape[1], shape[0], 3), np.uint8)
    paints = _tint(3, np.ones(3)) @ _surfaces(scene.track.colours).T
    for plane in range(3):
        _paint(covers, paints[plane].astype(np.float32), np.zeros((1, 1), np.float32), image[..., plane])
    across, down = shape[0] / (x_high - x_low), shape[1] / (y_high - y_low)
    to_pixel = np.array([[across, 0.0, -across * x_low - 0.5], [0.0, -down, down * y_high - 0.5]])
    return np.ascontiguousarray(image[::-1]), to_pixel


def _covers(track: Track, extent: Floats, shape: tuple[int, int]) -> Image:
    """uint8[3, rows, columns]: how far line, road and dashes, painted in turn, cover each texel; row 0 is at y low."""
    columns, rows = shape
    covers = np.zeros((3, rows, columns), np.uint8)
    scale = np.array(shape) / (extent[2:] - extent[:2])
    bleed = BLEED / float(scale.mean())
    _fill(covers[0], scale, extent, _rings(track.road.buffer(-bleed)))
    _fill(covers[1], scale, extent, _rings(track.road.buffer(-LINE_WIDTH - bleed)))
    middle, heading = track.place(np.arange(0, track.length - DASH_PITCH / 2, DASH_PITCH))
    half_length, half_width = (max(side / 2 - bleed, bleed / 8) for side in (DASH_LENGTH, DASH_WIDTH))
    ahead = np.stack([np.cos(heading), np.sin(heading)], axis=1) * half_length
    aside = np.stack([-np.sin(heading), np.cos(heading)], axis=1) * half_width
    corners = (middle + ahead + aside, middle + ahead - aside, middle - ahead - aside, middle - ahead + aside)
    for dash in np.stack(corners, axis=1):
        _fill(covers[2], scale, extent, [dash])
    return covers


def _fill(cover: Image, scale: Floats, extent: Floats, rings: Iterable[Floats]) -> None:
    fixed_point = 8
    corners = [np.round(((ring - extent[:2]) * scale - 0.5) * (1 << fixed_point)).astype(np.int32) for ring in rings]
    cv2.fillPoly(cover, corners, 255, cv2.LINE_AA, fixed_point)


@njit(cache=True, nogil=True)
def _paint(covers, paints, grain, ground):  # type: ignore[no-untyped-def]
    """Lay field, line, road and dashes over one another, with grain, into `ground` uint8[rows, columns]."""
    rows, columns = ground.shape
    high, wide = grain.shape
    field, line, road, dash = paints[0], paints[1], paints[2], paints[3]
    part = np.float32(1 / 255)
    for row in range(rows):
        for column in range(columns):
            value = field + (line - field) * (covers[0, row, column] * part)
            value += (road - value) * (covers[1, row, column] * part)
            value += (dash - value) * (covers[2, row, column] * part)
            value += grain[row % high, column % wide] + np.float32(0.5)
            ground[row, column] = np.uint8(min(max(value, np.float32(0)), np.float32(255)))


def _repaint(colours: Colours, spread: float, rng: np.random.Generator) -> Colours:
    """Other colours of the same kind: field, wall and sky may change much, the road stays dark and its line bright."""

    def near(colour: RGB, deviation: float) -> RGB:
        deviation *= spread
        shifted = rng.normal(colour, deviation) + rng.normal(0, deviation)
        red, green, blue = np.clip(shifted, 0, 255).astype(int).tolist()
        return red, green, blue

    return dataclasses.replace(
        colours,
        road=near(colours.road, 12),
        line=near(colours.line, 12),
        dash=near(colours.dash, 20),
        field=near(colours.field, 30),
        wall=near(colours.wall, 40),
        sky=near(colours.sky, 40),
    )


def _tint(planes: int, light: Floats) -> Floats:
    weights = GREY[None] if planes == 1 else np.eye(3)[::-1]
    return weights * light


def _surfaces(colours: Colours) -> Floats:
    return np.array([colours.field, colours.line, colours.road, colours.dash], np.float64)


def _backdrop(colours: Colours) -> Floats:
    return np.array([*(np.array(colours.wall) * shade for shade in WALL_SHADES), colours.sky], np.float64)


def _rings(area: shapely.Geometry) -> list[Floats]:
    return [shapely.get_coordinates(ring) for ring in shapely.get_rings(area)]
