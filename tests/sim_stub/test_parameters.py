"""Rows as dictionaries: the names, types and values that reward functions of the original's users expect."""

from __future__ import annotations

import numpy as np
import pytest

from sim_stub.parameters import COLUMN, OBJECT, OBJECT_COLUMNS, PAIRS, SCALARS, as_dict, width

WAYPOINTS = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)]
MANUAL = {
    "all_wheels_on_track": bool,
    "x": float,
    "y": float,
    "closest_objects": list,
    "closest_waypoints": list,
    "distance_from_center": float,
    "is_crashed": bool,
    "is_left_of_center": bool,
    "is_offtrack": bool,
    "is_reversed": bool,
    "heading": float,
    "objects_distance": list,
    "objects_heading": list,
    "objects_left_of_center": list,
    "objects_location": list,
    "objects_speed": list,
    "progress": float,
    "speed": float,
    "steering_angle": float,
    "steps": int,
    "track_length": float,
    "track_width": float,
    "waypoints": list,
}
"""The 23 parameters of the original's manual."""
BEYOND = {
    "projection_distance": float,
    "objects_distance_from_center": list,
    "object_in_camera": bool,
    "sim_time": float,
}


def counted(objects: int) -> np.ndarray:
    """A row whose numbers are all different."""
    return np.arange(1.0, width(objects) + 1)


def test_all_that_the_manual_promises_is_there_in_its_type() -> None:
    params = as_dict(counted(2), WAYPOINTS, 17.7)
    assert {name: type(value) for name, value in params.items()} == MANUAL | BEYOND


def test_every_column_finds_its_name() -> None:
    row = counted(2)
    params = as_dict(row, WAYPOINTS, 17.7)
    for name, kind in SCALARS:
        assert params[name] == kind(row[COLUMN[name]])
        assert type(params[name]) is kind
    first = len(SCALARS)
    assert params["closest_waypoints"] == [first + 1, first + 2]
    assert params["closest_objects"] == [first + 3, first + 4]
    objects = first + 4
    assert params["objects_location"] == [(objects + 1, objects + 2), (objects + 8, objects + 9)]
    assert params["objects_distance"] == [objects + 3, objects + 10]
    assert params["objects_distance_from_center"] == [objects + 4, objects + 11]
    assert params["objects_heading"] == [objects + 5, objects + 12]
    assert params["objects_left_of_center"] == [True, True]
    assert params["objects_speed"] == [objects + 7, objects + 14]
    assert params["track_length"] == 17.7
    assert params["waypoints"] == WAYPOINTS


@pytest.mark.parametrize("name", [name for name, kind in SCALARS if kind is bool])
def test_nought_is_false(name: str) -> None:
    row = counted(0)
    row[COLUMN[name]] = 0.0
    assert as_dict(row, WAYPOINTS, 1.0)[name] is False


def test_what_lists_hold_is_pythons_own() -> None:
    params = as_dict(counted(1), WAYPOINTS, 17.7)
    assert [type(index) for index in params["closest_waypoints"] + params["closest_objects"]] == [int] * 4
    for name, kind in OBJECT:
        assert [type(value) for value in params[name]] == [kind]
    assert [type(value) for value in params["objects_location"][0]] == [float, float]


def test_without_objects_their_lists_are_empty() -> None:
    params = as_dict(counted(0), WAYPOINTS, 17.7)
    assert [params[name] for name, _ in OBJECT] == [[]] * len(OBJECT)


def test_a_reward_function_may_do_with_its_lists_as_it_likes() -> None:
    row, waypoints = counted(1), list(WAYPOINTS)
    one = as_dict(row, waypoints, 17.7)
    for value in one.values():
        if isinstance(value, list):
            value.clear()
    assert waypoints == WAYPOINTS
    assert np.array_equal(row, counted(1))
    two = as_dict(row, waypoints, 17.7)
    assert two["waypoints"] == WAYPOINTS
    assert two["closest_waypoints"]
    assert two["objects_speed"]


def test_a_row_has_seven_columns_more_with_each_object() -> None:
    assert OBJECT_COLUMNS == 7
    assert [width(count) for count in (0, 1, 6)] == [21, 28, 63]
    assert width(0) == len(SCALARS) + 2 * len(PAIRS)


def test_a_row_of_the_wrong_width_is_not_read() -> None:
    with pytest.raises(ValueError, match="zip"):
        as_dict(np.zeros(5), WAYPOINTS, 1.0)
