"""A track: where the road is, how far along it a car has come, and what it is painted with."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from shapely.geometry.base import BaseGeometry

FOLDER = Path(__file__).parent / "tracks"
WAYPOINT_SPACING = 0.15
"""Metres between the points that a spline is cut into; the community's routes have the same."""

Points: TypeAlias = NDArray[np.float64]
RGB: TypeAlias = tuple[int, int, int]


class TrackError(ValueError):
    """The track cannot be used; the message says why, and what would do."""


@dataclass(frozen=True, slots=True)
class Colours:
    """Mean colours of the painted surfaces, RGB 0..255. The defaults are those most tracks share."""

    road: RGB = (64, 63, 61)
    line: RGB = (223, 223, 222)
    dash: RGB = (225, 143, 0)
    field: RGB = (126, 133, 65)
    wall: RGB = (36, 70, 81)
    sky: RGB = (178, 178, 178)


@dataclass(frozen=True)
class Track:
    """A road between two borders.

    `centre`, `inner` and `outer` are float64[n, 2] in metres, row by row abreast, in driving order; on a closed
    track the last row repeats the first. The borders are the outer edges of the road, white line included.
    """

    name: str
    title: str
    centre: Points
    inner: Points
    outer: Points
    colours: Colours = field(default_factory=Colours)

    @cached_property
    def closed(self) -> bool:
        return bool(np.allclose(self.centre[0], self.centre[-1], atol=1e-6))

    @cached_property
    def _line(self) -> shapely.LineString:
        return shapely.LineString(self.centre)

    @cached_property
    def road(self) -> BaseGeometry:
        """The road as an area, borders included."""
        if self.closed:
            rings = sorted((shapely.Polygon(self.inner), shapely.Polygon(self.outer)), key=lambda p: float(p.area))
            road = rings[1].buffer(0).difference(rings[0].buffer(0))
        else:
            road = shapely.Polygon(np.vstack([self.inner, self.outer[::-1]])).buffer(0)
        shapely.prepare(road)
        return road

    @property
    def length(self) -> float:
        """Metres along the centre line."""
        return float(self._line.length)

    @cached_property
    def bounds(self) -> tuple[float, float, float, float]:
        """Smallest box around the road: x_min, y_min, x_max, y_max, metres."""
        x_min, y_min, x_max, y_max = self.road.bounds
        return x_min, y_min, x_max, y_max

    def distance_along(self, points: Points) -> NDArray[np.float64]:
        """float64[...]: metres from the first waypoint to the foot of each point [..., 2] on the centre line."""
        return np.asarray(shapely.line_locate_point(self._line, shapely.points(points)), np.float64)

    def distance_from_centre(self, points: Points) -> NDArray[np.float64]:
        """float64[...]: metres from each point [..., 2] to the centre line."""
        return np.asarray(shapely.distance(self._line, shapely.points(points)), np.float64)

    def on_road(self, points: Points) -> NDArray[np.bool_]:
        """bool[...]: whether each point [..., 2] lies on the road."""
        return np.asarray(shapely.intersects_xy(self.road, points[..., 0], points[..., 1]), np.bool_)

    def place(self, along: NDArray[np.float64]) -> tuple[Points, NDArray[np.float64]]:
        """Points [..., 2] on the centre line and its headings [...] (rad), `along` metres from the first waypoint."""
        along = np.mod(along, self.length) if self.closed else np.clip(along, 0.0, self.length)
        reach = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(self.centre, axis=0).T))])
        row = np.clip(np.searchsorted(reach, along, side="right") - 1, 0, len(reach) - 2)
        step = self.centre[row + 1] - self.centre[row]
        part = (along - reach[row]) / (reach[row + 1] - reach[row])
        return self.centre[row] + step * part[..., None], np.arctan2(step[..., 1], step[..., 0])


def names() -> list[str]:
    """The names of the tracks that come with hotlap."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> Track:
    """The track of that name or title, or the community route (`.npy`, N x 6) at that path. Raises TrackError."""
    if name.endswith(".npy"):
        return _read_route(Path(name))
    for path in sorted(FOLDER.glob("*.toml")):
        title = str(tomllib.loads(path.read_text("utf-8"))["title"])
        if name.casefold() in (path.stem.casefold(), title.casefold()):
            return _read_toml(path)
    raise TrackError(f"There is no track {name!r}; use one of {', '.join(names())}, or the path of a .npy route.")


def _read_toml(path: Path) -> Track:
    figures = tomllib.loads(path.read_text("utf-8"))
    knots = np.asarray(figures["centre_m"], np.float64)
    knots = np.vstack([knots, knots[:1]])
    spline = CubicSpline(np.arange(len(knots)), knots, bc_type="periodic")
    fine = spline(np.linspace(0, len(knots) - 1, 50 * len(knots)))
    reach = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(fine, axis=0).T))])
    count = round(reach[-1] / WAYPOINT_SPACING) + 1
    at = np.interp(np.linspace(0, reach[-1], count), reach, np.linspace(0, len(knots) - 1, 50 * len(knots)))
    centre = spline(at)
    centre[-1] = centre[0]
    tangent = spline(at, 1)
    left = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1) / np.hypot(*tangent.T)[:, None]
    left[-1] = left[0]
    half = float(figures["width_m"]) / 2
    ccw = bool(shapely.is_ccw(shapely.LinearRing(centre)))
    inner, outer = (centre + half * left, centre - half * left)[:: 1 if ccw else -1]
    return Track(path.stem, figures["title"], centre, inner, outer, Colours(**_colours(figures)))


def _colours(figures: Mapping[str, Mapping[str, list[int]]]) -> dict[str, RGB]:
    return {name: (red, green, blue) for name, (red, green, blue) in figures.get("colours", {}).items()}


def _read_route(path: Path) -> Track:
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise TrackError(f"{path} cannot be read as a route: {error}.") from error
    if rows.ndim != 2 or rows.shape[1] != 6 or len(rows) < 3 or not np.isfinite(rows).all():
        raise TrackError(f"{path} is no route: it must hold at least 3 rows of 6 finite numbers, not {rows.shape}.")
    rows = rows.astype(np.float64)
    moved = np.hypot(*np.diff(rows[:, :2], axis=0).T) > 0
    rows = rows[np.concatenate([[True], moved])]
    if len(rows) < 3 or np.ptp(rows[:, :2], axis=0).max() > 1000:
        raise TrackError(f"{path} is no route: its centre line must have 3 different points within 1000 m.")
    return Track(path.stem, path.stem, rows[:, 0:2], rows[:, 2:4], rows[:, 4:6])
