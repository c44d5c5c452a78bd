"""Where things are on a road: by hand on roads of straight lines, and against shapely on those that come along."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import shapely
from hypothesis import example, given
from hypothesis import strategies as st

from sim_stub import track
from sim_stub.survey import FORWARD, REVERSED, Ground, Spot, ground, in_lane, locate, nearest, on_road
from sim_stub.track import Track
from tests.sim_stub.roads import HALF, circle, square, straight


def spot(road: Track, x: float, y: float, direction: int = FORWARD) -> Spot:
    return Spot(*locate(ground(road), direction, x, y))


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ((1.0, 0.3), Spot(1.0, 0.3, 0, 1, True, 1.0)),
        ((1.0, -0.3), Spot(1.0, 0.3, 0, 1, False, 1.0)),
        ((2.0, 0.1), Spot(2.0, 0.1, 1, 2, True, 1.0)),  # exactly on a waypoint: that one lies behind
        ((3.8, 3.0), Spot(7.0, 0.2, 3, 4, True, 1.0)),
        ((4.2, 3.0), Spot(7.0, 0.2, 3, 4, False, 1.0)),
        ((1.0, 3.5), Spot(11.0, 0.5, 5, 6, True, 1.0)),
        ((-0.4, 1.0), Spot(15.0, 0.4, 7, 8, False, 1.0)),
        ((0.3, 0.1), Spot(0.3, 0.1, 0, 1, True, math.hypot(0.2, 1.0))),  # just past the line
        ((0.1, 0.3), Spot(15.7, 0.1, 7, 8, True, math.hypot(0.2, 1.0))),  # just before it
    ],
)
def test_a_point_of_the_square_is_where_a_ruler_finds_it(point: tuple[float, float], expected: Spot) -> None:
    here = spot(square(), *point)
    assert here == pytest.approx(expected)


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ((1.0, 0.3), Spot(15.0, 0.3, 7, 8, False, 1.0)),
        ((1.0, -0.3), Spot(15.0, 0.3, 7, 8, True, 1.0)),
        ((-0.2, 1.0), Spot(1.0, 0.2, 0, 1, True, 1.0)),
        ((0.2, 2.0), Spot(2.0, 0.2, 1, 2, False, 1.0)),
    ],
)
def test_the_other_way_round_everything_is_told_from_the_other_side(point: tuple[float, float], expected: Spot) -> None:
    assert spot(square(), *point, REVERSED) == pytest.approx(expected)
    assert spot(square().reversed(), *point) == pytest.approx(expected)


def test_on_the_line_itself_the_lap_begins() -> None:
    here = spot(square(), 0.0, 0.0)
    assert (here.along, here.aside, here.behind, here.ahead) == (0.0, 0.0, 0, 1)
    there = spot(square(), 1e-12, 1e-9)
    assert (there.behind, there.ahead) in ((0, 1), (7, 8))


def test_past_the_last_waypoint_comes_the_first() -> None:
    road = straight()
    assert spot(road, 6.0, 0.0)[:4] == (6.0, 0.0, 6, 0)
    beyond = spot(road, 9.0, 0.0)
    assert (beyond.along, beyond.aside, beyond.behind, beyond.ahead) == (6.0, 3.0, 6, 0)
    assert spot(road, -2.0, 0.0)[:4] == (0.0, 2.0, 0, 1)


def test_on_an_open_track_left_is_left_both_ways() -> None:
    road = straight()
    assert spot(road, 1.5, 0.2).left
    assert not spot(road, 1.5, -0.2).left
    back = spot(road, 1.5, 0.2, REVERSED)
    assert not back.left
    assert (back.along, back.behind, back.ahead) == (4.5, 4, 5)
    assert spot(road, 1.5, -0.2, REVERSED).left


def test_the_width_is_that_of_the_road_where_one_stands() -> None:
    x = np.linspace(0, 10, 21)
    border = np.stack([x, 0.3 + 0.05 * x], axis=1)
    line = np.stack([x, 0 * x], axis=1)
    funnel = Track("funnel", "Funnel", line, border, border * [1, -1])
    # The nearest points of the slanted borders are a little off the perpendicular.
    slant = math.cos(math.atan(0.05))
    for at in (2.0, 5.0, 7.3):
        assert spot(funnel, at, 0.1).width == pytest.approx(2 * (0.3 + 0.05 * at) * slant**2, rel=0.01)
    assert spot(funnel, 7.3, 0.1).width > spot(funnel, 2.0, 0.1).width + 0.4


@pytest.mark.parametrize(
    ("point", "there"),
    [
        ((1.0, 0.49), True),
        ((1.0, -0.49), True),
        ((1.0, 0.51), False),
        ((1.0, -0.51), False),
        ((2.0, 2.0), False),
        ((4.49, 4.49), True),
        ((4.51, 4.49), False),
        ((3.49, 3.49), False),
        ((-9.0, 0.1), False),
    ],
)
def test_on_a_closed_road_is_between_its_rings(point: tuple[float, float], there: bool) -> None:
    assert on_road(ground(square()), *point) is there
    assert on_road(ground(square().reversed()), *point) is there


@pytest.mark.parametrize(
    ("point", "there"),
    [((0.1, 0.4), True), ((5.9, -0.49), True), ((3.0, 0.51), False), ((-0.1, 0.0), False), ((6.1, 0.0), False)],
)
def test_on_an_open_road_is_between_its_borders_and_its_ends(point: tuple[float, float], there: bool) -> None:
    assert on_road(ground(straight()), *point) is there


def test_lanes_run_halfway_between_the_middle_and_the_borders() -> None:
    here = ground(square())
    assert in_lane(here, FORWARD, 2.0, 1.0, 0.0) == pytest.approx((2.0, 0.25, 0.0))
    assert in_lane(here, FORWARD, 2.0, 0.0, 0.0) == pytest.approx((2.0, -0.25, 0.0))
    assert in_lane(here, FORWARD, 1.0, 0.5, 0.0) == pytest.approx((1.0, 0.0, 0.0))
    assert in_lane(here, FORWARD, 6.0, 1.0, 0.0) == pytest.approx((3.75, 2.0, np.pi / 2))
    assert in_lane(here, FORWARD, 16.0 + 2.0, 1.0, 0.0) == pytest.approx((2.0, 0.25, 0.0))
    assert in_lane(here, FORWARD, -14.0, 1.0, 0.0) == pytest.approx((2.0, 0.25, 0.0))


def test_against_the_direction_lanes_keep_their_side_of_the_track_and_turn_their_heading() -> None:
    here = ground(square())
    x, y, heading = in_lane(here, REVERSED, 14.0, 1.0, 0.0)
    assert (x, y) == pytest.approx((2.0, 0.25))
    assert abs(heading) == pytest.approx(np.pi)
    assert in_lane(here, REVERSED, 2.0, 0.0, 0.0) == pytest.approx((-0.25, 2.0, np.pi / 2))


def test_whoever_changes_lanes_heads_for_the_other() -> None:
    here = ground(straight())
    *_, heading = in_lane(here, FORWARD, 3.0, 0.5, 0.4)
    # 0.5 m from lane to lane, 0.4 of it with each metre.
    assert heading == pytest.approx(math.atan(0.2))
    assert in_lane(here, FORWARD, 3.0, 0.5, -0.4)[2] == pytest.approx(-math.atan(0.2))


def test_an_open_track_ends_where_it_ends() -> None:
    here = ground(straight())
    assert in_lane(here, FORWARD, 99.0, 0.5, 0.0) == pytest.approx((6.0, 0.0, 0.0))
    assert in_lane(here, FORWARD, -1.0, 1.0, 0.0)[:2] == pytest.approx((0.0, 0.25))


@given(st.floats(0.01, 2 * np.pi - 0.01), st.floats(-0.45, 0.45), st.sampled_from([FORWARD, REVERSED]))
def test_on_a_round_track_the_place_is_the_angle(turn: float, out: float, direction: int) -> None:
    radius = 2.0
    here = spot(circle(radius), (radius + out) * math.cos(turn), (radius + out) * math.sin(turn), direction)
    travelled = turn if direction == FORWARD else 2 * np.pi - turn
    assert here.along == pytest.approx(radius * travelled, abs=0.01)
    assert here.aside == pytest.approx(abs(out), abs=1e-3)
    # Outside, a waypoint is the nearest point of the line to all that lies before its corner.
    assert abs(here.behind + 0.5 - travelled / (2 * np.pi) * 400) < 0.75
    assert here.ahead == here.behind + 1
    assert here.width == pytest.approx(2 * HALF, abs=1e-3)
    if abs(out) > 0.01:
        assert here.left == ((out < 0) == (direction == FORWARD))


@cache
def shipped(name: str) -> tuple[Track, Ground]:
    road = track.load(name)
    return road, ground(road)


@given(st.sampled_from(track.names()), st.floats(0, 1), st.floats(0, 1), st.sampled_from([FORWARD, REVERSED]))
def test_on_every_track_shapely_says_the_same(name: str, across: float, up: float, direction: int) -> None:
    road, here = shipped(name)
    low_x, low_y, high_x, high_y = road.field
    x, y = low_x + across * (high_x - low_x), low_y + up * (high_y - low_y)
    point = np.array([x, y])
    way = road if direction == FORWARD else road.reversed()
    found = Spot(*locate(here, direction, x, y))
    assert found.aside == pytest.approx(float(way.distance_from_centre(point)), abs=1e-9)
    # Where two parts of the line are equally near, both are right.
    foot = shapely.line_interpolate_point(shapely.LineString(way.centre), found.along)
    assert math.hypot(foot.x - x, foot.y - y) == pytest.approx(found.aside, abs=1e-9)
    if abs(found.along - float(way.distance_along(point))) > 1e-6:
        assert not 1e-6 < abs(found.along - float(way.distance_along(point))) < 0.3
    to_border = float(shapely.distance(shapely.boundary(road.road), shapely.points(point)))
    if to_border > 1e-9:
        assert on_road(here, x, y) is bool(shapely.contains_xy(road.road, x, y))


@example("2022_reinvent_champ_ccw", 0.328125, 0.890625, False)
@given(st.sampled_from(track.names()), st.floats(0.001, 0.999), st.floats(0.05, 0.9), st.booleans())
def test_beside_the_middle_of_every_track_left_is_left(name: str, part: float, out: float, left: bool) -> None:
    road, here = shipped(name)
    for direction, way in ((FORWARD, road), (REVERSED, road.reversed())):
        place, heading = way.place(np.array([part * road.length]))
        width = spot(road, *place[0]).width
        normal = np.array([-np.sin(heading[0]), np.cos(heading[0])]) * (1 if left else -1)
        x, y = place[0] + out * width / 2 * normal
        found = Spot(*locate(here, direction, x, y))
        assert found.left is left
        assert on_road(here, x, y)
        assert found.aside <= out * width / 2 + 1e-9, "where it was put is never nearer than what was found"

        def near(along: float) -> bool:
            apart = abs(along - part * road.length)
            return min(apart, road.length - apart if road.closed else np.inf) < 0.3

        # Far inside a sharp bend another place of the line can be the nearest; shapely knows where.
        assert near(found.along) is near(float(way.distance_along(np.array([x, y]))))


@given(st.sampled_from(track.names()), st.floats(0, 1), st.floats(0, 1), st.sampled_from([FORWARD, REVERSED]))
def test_what_drives_in_a_lane_is_found_there(name: str, part: float, share: float, direction: int) -> None:
    road, here = shipped(name)
    x, y, heading = in_lane(here, direction, part * road.length, share, 0.0)
    found = Spot(*locate(here, direction, x, y))
    apart = abs(found.along - part * road.length)
    assert min(apart, road.length - apart if road.closed else np.inf) < 0.1
    assert found.aside == pytest.approx(abs(share - 0.5) * found.width / 2, abs=0.01)
    bearing = (road if direction == FORWARD else road.reversed()).place(np.array([part * road.length]))[1][0]
    assert abs(math.remainder(heading - bearing, 2 * np.pi)) < 0.35


def test_the_nearest_point_of_a_line_is_told_with_its_segment() -> None:
    line = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 0.0], [2.0, 2.0]])
    assert nearest(line, 0.5, 1.0) == pytest.approx((0, 0.25, 0.5, 0.0, 1.0))
    assert nearest(line, 3.0, 1.5) == pytest.approx((2, 0.75, 2.0, 1.5, 1.0))
    assert nearest(line, 3.0, -1.0) == pytest.approx((0, 1.0, 2.0, 0.0, 2.0))
