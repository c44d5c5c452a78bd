"""A track: where the road is, how far along it a car has come, and what it is painted with."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
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

PIECE_SPACING = 0.08
"""The same between those of straights and arcs, which turn more tightly."""
FIELD_MARGIN = 0.762
"""Metres of field around the road's bounding box; the walls stand at its edge."""

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
    def ccw(self) -> bool:
        """Whether the driving order is counter-clockwise; an open track counts as if it were."""
        return not self.closed or bool(shapely.is_ccw(shapely.LinearRing(self.centre)))

    @cached_property
    def _line(self) -> shapely.LineString:
        return shapely.LineString(self.centre)

    @cached_property
    def _reach(self) -> NDArray[np.float64]:
        """Metres along the centre line to each of its points."""
        return np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(self.centre, axis=0).T))])

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
    def field(self) -> tuple[float, float, float, float]:
        """The ground within the walls, metres: x_min, y_min, x_max, y_max."""
        x_min, y_min, x_max, y_max = self.bounds
        return x_min - FIELD_MARGIN, y_min - FIELD_MARGIN, x_max + FIELD_MARGIN, y_max + FIELD_MARGIN

    def reversed(self) -> Track:
        """The same road, driven the other way."""
        return dataclasses.replace(self, centre=self.centre[::-1], inner=self.inner[::-1], outer=self.outer[::-1])

    @cached_property
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

    def distance_from_road(self, points: Points) -> NDArray[np.float64]:
        """float64[...]: metres from each point [..., 2] to the road, 0 on it."""
        return np.asarray(shapely.distance(self.road, shapely.points(points)), np.float64)

    def place(self, along: NDArray[np.float64]) -> tuple[Points, NDArray[np.float64]]:
        """Points [..., 2] on the centre line and its headings [...] (rad), `along` metres from the first waypoint."""
        along = np.mod(along, self.length) if self.closed else np.clip(along, 0.0, self.length)
        reach = self._reach
        row = np.clip(np.searchsorted(reach, along, side="right") - 1, 0, len(reach) - 2)
        step = self.centre[row + 1] - self.centre[row]
        part = (along - reach[row]) / (reach[row + 1] - reach[row])
        return self.centre[row] + step * part[..., None], np.arctan2(step[..., 1], step[..., 0])


def names() -> list[str]:
    """The names of the tracks that come with hotlap."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> Track:
    """The track of that name or title, the drawing (`.toml`) or the community route (`.npy`, N x 6) at that path.

    Raises TrackError. What a drawing may hold stands in docs/simulator.md.
    """
    if name.endswith(".npy"):
        return _sound(_read_route(Path(name)))
    if name.endswith(".toml"):
        return _sound(_read_toml(Path(name)))
    for path in sorted(FOLDER.glob("*.toml")):
        title = str(tomllib.loads(path.read_text("utf-8"))["title"])
        if name.casefold() in (path.stem.casefold(), title.casefold()):
            return _read_toml(path)
    raise TrackError(
        f"There is no track {name!r}; use one of {', '.join(names())}, or the path of a .npy route or .toml drawing."
    )


def _sound(track: Track) -> Track:
    """The track, if a car can tell where on it it is. Raises TrackError."""
    line = shapely.LineString(track.centre)
    if not line.is_simple:
        pieces = shapely.unary_union(line)
        ends = shapely.get_coordinates([shapely.get_point(piece, -1) for piece in shapely.get_parts(pieces)])
        where = next((end for end in ends if np.hypot(*(end - track.centre[-1])) > 1e-6), track.centre[0])
        raise TrackError(
            f"{track.title} crosses itself near ({where[0]:.2f}, {where[1]:.2f}) m: draw it so that it does not."
        )
    return track


def _read_toml(path: Path) -> Track:
    try:
        figures = tomllib.loads(path.read_text("utf-8"))
        title, width = str(figures.get("title", path.stem)), float(figures["width_m"])
        if not 0.1 <= width <= 10:
            raise TrackError(f"{path}: width_m must lie in 0.1..10, not {width:g}.")
        centre, tangent = _pieces(figures["pieces"]) if "pieces" in figures else _spline(figures["centre_m"])
        colours = Colours(**_colours(figures))
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as error:
        raise TrackError(f"{path} cannot be read as a track: {error}.") from error
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, TrackError):
            raise
        raise TrackError(f"{path} is no drawing of a track: {type(error).__name__}: {error}.") from error
    left = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1) / np.hypot(*tangent.T)[:, None]
    closed = bool(np.allclose(centre[0], centre[-1], atol=1e-6))
    ccw = not closed or bool(shapely.is_ccw(shapely.LinearRing(centre)))
    inner, outer = (centre + width / 2 * left, centre - width / 2 * left)[:: 1 if ccw else -1]
    return Track(path.stem, title, centre, inner, outer, colours)


def _spline(knots: list[list[float]]) -> tuple[Points, Points]:
    """Waypoints, and the direction at each, of the closed cubic spline through `knots`."""
    points = np.asarray(knots, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3 or not np.isfinite(points).all():
        raise TrackError("centre_m must hold at least 3 points of 2 finite numbers.")
    points = np.vstack([points, points[:1]])
    spline = CubicSpline(np.arange(len(points)), points, bc_type="periodic")
    fine = spline(np.linspace(0, len(points) - 1, 50 * len(points)))
    reach = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(fine, axis=0).T))])
    count = round(reach[-1] / WAYPOINT_SPACING) + 1
    at = np.interp(np.linspace(0, reach[-1], count), reach, np.linspace(0, len(points) - 1, 50 * len(points)))
    centre, tangent = spline(at), spline(at, 1)
    centre[-1], tangent[-1] = centre[0], tangent[0]
    return centre, tangent


def _pieces(pieces: list[dict[str, float]]) -> tuple[Points, Points]:
    """The same of straights (`straight_m`) and arcs (`turn_deg`, + left; `radius_m` of the centre line), in turn."""
    at, heading = np.zeros(2), 0.0
    points, headings = [at], [heading]
    for piece in pieces:
        if set(piece) == {"straight_m"}:
            length, turn = float(piece["straight_m"]), 0.0
        elif set(piece) == {"turn_deg", "radius_m"}:
            turn = float(np.radians(piece["turn_deg"]))
            length = abs(turn) * float(piece["radius_m"])
        else:
            raise TrackError(f"a piece must have straight_m, or turn_deg and radius_m, not {', '.join(piece)}.")
        if not 0.01 <= length <= 1000:
            raise TrackError(f"a piece must be 0.01..1000 m long, not {length:g}.")
        count = max(1, int(np.ceil(length / PIECE_SPACING)))
        for _ in range(count):
            chord = length / count * np.sinc(turn / count / (2 * np.pi))
            heading += turn / count / 2
            at = at + chord * np.array([np.cos(heading), np.sin(heading)])
            heading += turn / count / 2
            points.append(at)
            headings.append(heading)
    centre, bearing = np.array(points), np.array(headings)
    if len(pieces) > 2 and np.hypot(*centre[-1]) < 1e-3 and abs(np.cos(heading) - 1) < 1e-6:
        centre[-1] = centre[0]
    return centre, np.stack([np.cos(bearing), np.sin(bearing)], axis=1)


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


INCH = 0.0254
NARROWEST = 21 * INCH
"""The manual's 24 inches of width, less the 3 that it allows."""
TIGHTEST = ((90.0, 25 * INCH), (360.0, 30 * INCH))
"""Turning angle up to which (degrees), and the smallest radius of the outside border there (m)."""
BEND = 1 / 6
"""Curvature (1/m) below which a road counts as straight."""


def broken_rules(track: Track) -> list[str]:
    """What of the manual's rules for building a track this one breaks: its width, its turns. A sentence each."""
    broken = []
    width = _widths(track)
    if (narrowest := float(width.min())) < NARROWEST - 1e-3:
        broken.append(
            f"The road is {narrowest / INCH:.1f} inches wide at its narrowest; it must be 24, give or take 3."
        )
    for along, angle, radius in turns(track):
        least = next(limit for most, limit in TIGHTEST if angle <= most + 1 or most == 360.0)
        if radius < least - 0.01:
            broken.append(
                f"The turn of {angle:.0f} degrees {along:.1f} m from the start has an outside radius of "
                f"{radius / INCH:.1f} inches; it must be at least {least / INCH:.0f}."
            )
    return broken


def turns(track: Track) -> list[tuple[float, float, float]]:
    """Each turn: metres from the start to its tightest point, its angle (degrees), its outside radius there (m)."""
    step = 0.05
    count = int(track.length / step)
    along = np.arange(count) * track.length / count
    window = 3
    points, _ = track.place(along)
    if track.closed:
        before, after = np.roll(points, window, axis=0), np.roll(points, -window, axis=0)
    else:
        rows = np.arange(count)
        before, after = points[np.maximum(rows - window, 0)], points[np.minimum(rows + window, count - 1)]
    first, second, whole = points - before, after - points, after - before
    sides = np.hypot(*first.T) * np.hypot(*second.T) * np.hypot(*whole.T)
    bend = 2 * (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / np.maximum(sides, 1e-12)
    half = np.interp(along, np.linspace(0, track.length, len(track.centre)), _widths(track) / 2)
    kind = np.where(np.abs(bend) > BEND, np.sign(bend), 0.0)
    shift = int(np.flatnonzero(kind == 0)[0]) if track.closed and (kind == 0).any() else 0
    kind, bend, half, along = (np.roll(values, -shift) for values in (kind, bend, half, along))
    edges = np.flatnonzero(np.diff(np.concatenate([[0.0], kind, [0.0]])))
    found = []
    for start, end in pairwise(edges.tolist()):
        part = np.abs(bend[start:end])
        angle = float(np.degrees(part.sum() * track.length / count))
        if kind[start] and angle > 10:
            tightest = start + int(part.argmax())
            found.append((float(along[tightest]), angle, float(1 / part.max() + half[tightest])))
    return found


def _widths(track: Track) -> NDArray[np.float64]:
    return np.asarray(np.hypot(*(track.inner - track.outer).T), np.float64)


def main(arguments: list[str] | None = None) -> int:
    """Say what each track is and whether it can be built by the manual's rules: 0 if all can, 1 if not, 2 if bad."""
    parser = argparse.ArgumentParser(prog="python -m sim_stub.track", description=main.__doc__)
    parser.add_argument("tracks", nargs="+", metavar="TRACK", help="a name, a .npy route or a .toml drawing")
    status = 0
    for name in parser.parse_args(arguments).tracks:
        try:
            track = load(name)
        except TrackError as error:
            print(error, file=sys.stderr)
            return 2
        width = _widths(track)
        print(f"{track.title}: {track.length:.2f} m long, {width.min():.2f} to {width.max():.2f} m wide")
        broken = broken_rules(track)
        for rule in broken:
            print(f"  {rule}")
        if not broken:
            print("  keeps the manual's rules of width and turning radius")
        status |= bool(broken)
    return status


if __name__ == "__main__":
    sys.exit(main())
