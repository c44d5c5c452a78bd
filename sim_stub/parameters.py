"""What a reward function is told: a call is one row of numbers, so that the calls of many cars travel at once.

Facts and names are those that users of the original know. `as_dict` is what a reward function gets of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Row: TypeAlias = NDArray[np.float64]
"""float64[width(objects)]: SCALARS, two indices for each of PAIRS, then OBJECT's columns for each object in turn."""
Waypoints: TypeAlias = Sequence[tuple[float, float]]

SCALARS: Final[tuple[tuple[str, type], ...]] = (
    ("all_wheels_on_track", bool),
    ("x", float),
    ("y", float),
    ("heading", float),
    ("distance_from_center", float),
    ("projection_distance", float),
    ("progress", float),
    ("steps", int),
    ("speed", float),
    ("steering_angle", float),
    ("track_width", float),
    ("is_left_of_center", bool),
    ("is_reversed", bool),
    ("is_crashed", bool),
    ("is_offtrack", bool),
    ("object_in_camera", bool),
    ("sim_time", float),
)
"""Metres, degrees, m/s, seconds, per cent. x and y are the front point's; speed and steering_angle the wished ones."""
PAIRS: Final = ("closest_waypoints", "closest_objects")
"""Behind and ahead of the car."""
OBJECT: Final[tuple[tuple[str, type], ...]] = (
    ("objects_location", tuple),
    ("objects_distance", float),
    ("objects_distance_from_center", float),
    ("objects_heading", float),
    ("objects_left_of_center", bool),
    ("objects_speed", float),
)
"""Of each object: a location takes two columns, x and y. Headings are degrees, as the manual says."""
OBJECT_COLUMNS: Final = len(OBJECT) + 1
COLUMN: Final = {name: place for place, (name, _) in enumerate(SCALARS)}


def width(objects: int) -> int:
    """Columns of a row in a race with so many objects."""
    return len(SCALARS) + 2 * len(PAIRS) + OBJECT_COLUMNS * objects


def as_dict(row: Row, waypoints: Waypoints, track_length: float) -> dict[str, Any]:
    """The parameters that a reward function gets; fresh lists, so that it may do with them as it likes."""
    values = row.tolist()
    params: dict[str, Any] = {
        name: kind(value) for (name, kind), value in zip(SCALARS, values[: len(SCALARS)], strict=True)
    }
    pairs = values[len(SCALARS) : len(SCALARS) + 2 * len(PAIRS)]
    for place, name in enumerate(PAIRS):
        params[name] = [int(pairs[2 * place]), int(pairs[2 * place + 1])]
    objects = values[len(SCALARS) + 2 * len(PAIRS) :]
    each = [objects[first : first + OBJECT_COLUMNS] for first in range(0, len(objects), OBJECT_COLUMNS)]
    params[OBJECT[0][0]] = [(columns[0], columns[1]) for columns in each]
    for place, (name, kind) in enumerate(OBJECT[1:], start=2):
        params[name] = [kind(columns[place]) for columns in each]
    params["waypoints"] = list(waypoints)
    params["track_length"] = track_length
    return params
