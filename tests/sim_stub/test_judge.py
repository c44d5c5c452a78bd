"""What the referee sees of a car and of the objects round it, by hand on a square road of 6 m sides."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_stub.dynamics import FRONT_POINT
from sim_stub.judge import (
    BODY,
    FIRST_OBJECT,
    STUCK,
    Frustum,
    Ledger,
    Objects,
    in_view,
    judge_cars,
    progress_of,
    touches,
)
from sim_stub.parameters import COLUMN, OBJECT_COLUMNS, as_dict, width
from sim_stub.survey import FORWARD, REVERSED, ground
from sim_stub.traffic import BOT, BOX, BOX_BUFFER
from tests.sim_stub.roads import square

HERE = ground(square(6.0, 1.0))
LAP = 24.0
BOX_HALF = np.array([BOX[0] + BOX_BUFFER, BOX[1] + BOX_BUFFER]) / 2
BOT_HALF = np.array(BOT[:2]) / 2
NOTHING = Objects(np.zeros((1, 0, 3)), BOX_HALF, False, 0.0)
LENS = Frustum()


def ledger(direction: int = FORWARD, start: float = 0.0, progress: float = 0.0) -> Ledger:
    return Ledger(
        direction=np.array([direction]),
        start=np.array([start]),
        steps=np.array([2]),
        clock=np.array([1.5]),
        progress=np.array([progress]),
        uncapped=np.zeros(1),
        was=np.full((1, 2, 2), 99.0),
        fell=np.zeros(1, np.int64),
        stuck=np.zeros(1, np.int64),
        wheels=np.zeros(1, np.int64),
        hit=np.full(1, -1),
    )


def standing(x: float, y: float, degrees: float = 0.0) -> np.ndarray:
    """A car whose front point is there."""
    yaw = math.radians(degrees)
    return np.array([[x - FRONT_POINT * math.cos(yaw), y - FRONT_POINT * math.sin(yaw), yaw, 0.0, 0.0]])


def judge(
    state: np.ndarray, book: Ledger | None = None, objects: Objects = NOTHING, wish: tuple[float, float] = (0.0, 0.0)
) -> np.ndarray:
    rows = np.full((1, width(objects.pose.shape[1])), np.nan)
    judge_cars(HERE, np.array([True]), state, np.array([wish]), book or ledger(), objects, LENS, rows)
    row: np.ndarray = rows[0]
    return row


def boxes(*poses: tuple[float, float, float]) -> Objects:
    return Objects(np.array([poses], np.float64), BOX_HALF, False, 0.0)


def bots(*poses: tuple[float, float, float]) -> Objects:
    return Objects(np.array([poses], np.float64), BOT_HALF, True, 0.25)


def told(row: np.ndarray) -> dict[str, object]:
    return as_dict(row, [(0.0, 0.0)], LAP)


def test_a_row_tells_all_about_a_car_alone() -> None:
    params = told(judge(standing(2.5, 0.2, 90.0), ledger(progress=3.0), wish=(math.radians(-20), 1.7)))
    numbers = {
        "x": 2.5,
        "y": 0.2,
        "heading": 90.0,
        "distance_from_center": 0.2,
        "projection_distance": 2.5,
        "progress": 100 * 2.5 / LAP,
        "speed": 1.7,
        "steering_angle": -20.0,
        "track_width": 1.0,
        "sim_time": 1.5,
        "track_length": LAP,
    }
    assert {name: params.pop(name) for name in numbers} == pytest.approx(numbers)
    assert params == {
        "all_wheels_on_track": True,
        "steps": 2,
        "is_left_of_center": True,
        "is_reversed": False,
        "is_crashed": False,
        "is_offtrack": False,
        "object_in_camera": False,
        "closest_waypoints": [2, 3],
        "closest_objects": [0, 0],
        "objects_location": [],
        "objects_distance": [],
        "objects_distance_from_center": [],
        "objects_heading": [],
        "objects_left_of_center": [],
        "objects_speed": [],
        "waypoints": [(0.0, 0.0)],
    }


def test_the_other_way_round_it_tells_the_same_from_there() -> None:
    params = told(judge(standing(2.5, 0.2, 180.0), ledger(REVERSED, progress=89.0)))
    assert params["projection_distance"] == pytest.approx(21.5)
    assert params["progress"] == pytest.approx(100 * 21.5 / LAP)
    assert params["closest_waypoints"] == [21, 22]
    assert params["is_reversed"] is True
    assert params["is_left_of_center"] is False
    assert abs(float(str(params["heading"]))) == pytest.approx(180.0)


def test_cars_whose_run_is_over_are_not_looked_at() -> None:
    rows, book = np.full((2, width(0)), 7.0), ledger()
    book = Ledger(*(np.concatenate([values, values]) for values in book))
    states = np.concatenate([standing(2.0, 0.0), standing(3.0, 0.0)])
    judge_cars(
        HERE,
        np.array([False, True]),
        states,
        np.zeros((2, 2)),
        book,
        Objects(np.zeros((2, 0, 3)), BOX_HALF, False, 0.0),
        LENS,
        rows,
    )
    assert (rows[0] == 7.0).all()
    assert rows[1, COLUMN["x"]] == pytest.approx(3.0)
    assert (book.was[0] == 99.0).all()


@pytest.mark.parametrize(
    ("raw", "before", "capped", "uncapped"),
    [
        (0.3, 29.0, 30.0, 30.0),
        (0.0, 0.0, 0.0, 0.0),  # on the line at the start
        (-0.004, 0.0, -0.4, -0.4),  # backwards over it
        (0.996, -0.1, -0.4, -0.4),  # the same, started on the line itself
        (-0.7, 29.0, 30.0, 30.0),  # started at 70 % of the road, now past its end
        (0.002, 99.5, 100.0, 100.2),  # round, and over the line
        (-0.5, 49.0, 50.0, 50.0),
        (0.0, 50.0, 100.0, 100.0),  # on the line after just half a lap
        (0.001, 55.0, 0.1, 0.1 + 100.0),
    ],
)
def test_progress_wraps_but_never_jumps_by_half_a_lap(
    raw: float, before: float, capped: float, uncapped: float
) -> None:
    if before == 55.0:
        capped = 100.0  # from 55 % to the line at once counts as a lap, as it did in the original
    assert progress_of(raw, before) == pytest.approx((capped, uncapped))


@given(st.floats(0, 0.9999), st.lists(st.floats(-0.08, 0.08), min_size=1, max_size=200))
def test_progress_is_the_way_travelled_wherever_the_lap_began(start: float, moves: list[float]) -> None:
    travelled, before = 0.0, 0.0
    for move in moves:
        travelled = max(travelled + move, -0.45)
        done, uncapped = progress_of((start + travelled) % 1.0 - start, before)
        if travelled >= 1 - 1e-9:
            assert done == pytest.approx(100.0)
            assert uncapped == pytest.approx(100 * travelled)
            return
        assert done == pytest.approx(100 * travelled, abs=1e-6)
        before = done


@pytest.mark.parametrize(
    ("out", "wheels"),
    [(0.3, 4), (0.41, 4), (0.43, 2), (0.57, 2), (0.59, 0), (-0.41, 4), (-0.43, 2), (-0.59, 0)],
)
def test_wheels_are_counted_one_by_one(out: float, wheels: int) -> None:
    """The road's edge is 0.5 m out, the wheels stand 0.08 m aside."""
    book = ledger()
    row = judge(standing(2.5, out), book)
    assert book.wheels[0] == wheels
    assert row[COLUMN["all_wheels_on_track"]] == (wheels == 4)


def test_three_wheels_are_not_all() -> None:
    book = ledger()
    yaw = 15.0
    # Only the front left wheel is beyond the line y = 0.5.
    assert judge(standing(2.5, 0.47, yaw), book)[COLUMN["all_wheels_on_track"]] == 0
    assert book.wheels[0] == 3


def test_still_steps_are_counted_until_the_car_moves() -> None:
    book = ledger()
    counts = []
    for x in (1.0, 1.0, 1.0 + 0.9 * STUCK, 1.1, 1.1, 1.1):
        judge(standing(x, 0.0), book)
        counts.append(int(book.stuck[0]))
    assert counts == [0, 1, 2, 0, 1, 2]


def test_shaking_between_two_places_is_standing_still() -> None:
    book = ledger()
    counts = []
    for x in (1.0, 1.01, 1.0, 1.01, 1.0):
        judge(standing(x, 0.0), book)
        counts.append(int(book.stuck[0]))
    assert counts == [0, 0, 1, 2, 3]


def test_falling_progress_is_counted_until_it_rises_or_stays() -> None:
    book = ledger(progress=50.0)
    counts = []
    for x in (2.0, 1.9, 1.8, 1.8, 1.7, 1.75):
        row = judge(standing(x, 0.0), book)
        counts.append(int(book.fell[0]))
        book.progress[0] = row[COLUMN["progress"]]
    assert counts == [1, 2, 3, 0, 1, 0]


@pytest.mark.parametrize(
    ("ahead", "left", "hit"),
    [
        # The car's corners are 0.16176 m before and behind its origin and 0.09805 m beside it;
        # the box counts 0.17065 m before and behind its middle and 0.2437 m to its sides.
        (0.33, 0.0, True),
        (0.335, 0.0, False),
        (-0.33, 0.0, True),
        (-0.335, 0.0, False),
        (0.0, 0.34, True),
        (0.0, 0.343, False),
        (0.33, 0.34, True),
        (0.33, 0.343, False),
    ],
)
def test_a_crash_is_a_corner_of_the_car_in_the_box_and_its_buffer(ahead: float, left: float, hit: bool) -> None:
    box = np.array([1.0 + ahead, 1.0 + left, 0.0])
    assert touches(1.0, 1.0, 0.0, box, BOX_HALF) is hit
    # The whole scene turned by a right angle, and the box by half a turn.
    turned = np.array([1.0 - left, 1.0 + ahead, -np.pi / 2])
    assert touches(1.0, 1.0, np.pi / 2, turned, BOX_HALF) is hit


def test_only_corners_count_as_in_the_original() -> None:
    post = np.array([0.0, 0.0, 0.0])
    assert not touches(0.0, 0.0, 0.0, post, np.array([0.05, 0.05]))


@given(st.floats(-0.6, 0.6), st.floats(-0.6, 0.6), st.floats(-3.2, 3.2), st.floats(-3.2, 3.2))
def test_corners_are_where_trigonometry_puts_them(x: float, y: float, yaw: float, turn: float) -> None:
    forward = np.array([math.cos(yaw), math.sin(yaw)])
    side = np.array([-forward[1], forward[0]])
    corners = [np.array([x, y]) + a * BODY[0] * forward + b * BODY[1] * side for a in (1, -1) for b in (1, -1)]
    axes = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    depth = max(float((BOX_HALF - np.abs(axes @ corner)).min()) for corner in corners)
    if abs(depth) > 1e-9:
        assert touches(x, y, yaw, np.array([0.0, 0.0, turn]), BOX_HALF) is (depth > 0)


def test_the_first_box_that_is_hit_is_told() -> None:
    book = ledger()
    row = judge(standing(2.0, 0.0), book, boxes((4.0, 0.0, 0.0), (2.15, 0.0, 0.0), (2.1, 0.0, 0.0)))
    assert book.hit[0] == 1
    assert row[COLUMN["progress"]] == pytest.approx(100 * 2.0 / LAP)
    judge(standing(3.0, 0.0), book, boxes((4.0, 0.0, 0.0), (2.2, 0.0, 0.0)))
    assert book.hit[0] == -1


def test_of_two_cars_only_the_one_behind_is_at_fault() -> None:
    book = ledger()
    judge(standing(2.0, 0.0), book, bots((2.15, 0.02, 0.0)))
    assert book.hit[0] == 0
    judge(standing(2.0, 0.0), book, bots((1.75, 0.02, 0.0)))
    assert book.hit[0] == -1
    # A box stands: whoever touches it ran into it.
    judge(standing(2.0, 0.0), book, boxes((1.75, 0.0, 0.0)))
    assert book.hit[0] == 0


def test_who_is_behind_is_known_on_either_side_of_the_line() -> None:
    """The front is over the line; the car behind is not, and the other way round."""
    book = ledger(progress=1.0)
    judge(standing(0.06, 0.0), book, bots((0.2, 0.02, 0.0)))
    assert book.hit[0] == 0
    book = ledger(progress=99.0)
    judge(standing(0.0, 0.06, -90.0), book, bots((0.2, 0.02, 0.0)))  # a quarter turn short of it, on the last side
    assert book.hit[0] == 0
    book = ledger(progress=1.0)
    judge(standing(0.06, 0.0), book, bots((0.02, 0.15, -np.pi / 2)))
    assert book.hit[0] == -1


def test_who_is_behind_does_not_depend_on_where_the_lap_began() -> None:
    for start in (0.0, 0.05, 0.5, 0.99):
        book = ledger(start=start, progress=(100 * (2.0 / LAP - start)) % 100)
        judge(standing(2.0, 0.0), book, bots((2.15, 0.02, 0.0)))
        assert book.hit[0] == 0
        judge(standing(2.0, 0.0), book, bots((1.75, 0.02, 0.0)))
        assert book.hit[0] == -1


def test_objects_are_told_one_by_one() -> None:
    turned = math.radians(100.0)
    row = judge(standing(2.0, 0.0), None, bots((3.0, -0.25, 0.0), (5.75, 2.0, turned)))
    params = told(row)
    assert params["objects_location"] == [(3.0, -0.25), (5.75, 2.0)]
    assert params["objects_distance"] == pytest.approx([3.0, 8.0])
    assert params["objects_distance_from_center"] == pytest.approx([0.25, 0.25])
    assert params["objects_heading"] == pytest.approx([0.0, 100.0])
    assert params["objects_left_of_center"] == [False, True]
    assert params["objects_speed"] == [0.25, 0.25]
    standing_ones = told(judge(standing(2.0, 0.0), None, boxes((3.0, -0.25, 0.3))))
    assert standing_ones["objects_heading"] == [0.0]
    assert standing_ones["objects_speed"] == [0.0]


@pytest.mark.parametrize(
    ("at", "closest"),
    [(0.5, [2, 1]), (2.0, [1, 0]), (4.0, [0, 2]), (7.0, [2, 1]), (1.0, [1, 0]), (3.0, [0, 2])],
)
def test_the_closest_objects_are_those_behind_and_ahead_along_the_road(at: float, closest: list[int]) -> None:
    """Objects 1, 0 and 2 stand 1, 3 and 5 m along; one abreast counts as behind; behind the first is the last."""
    x, y = (at, 0.0) if at <= 6 else (6.0, at - 6)
    row = judge(standing(x, y), None, boxes((3.0, 0.2, 0.0), (1.0, -0.2, 0.0), (5.0, 0.2, 0.0)))
    assert told(row)["closest_objects"] == closest


def test_one_object_is_both_behind_and_ahead() -> None:
    for at in (1.0, 5.0):
        assert told(judge(standing(at, 0.0), None, boxes((3.0, 0.0, 0.0))))["closest_objects"] == [0, 0]


@pytest.mark.parametrize(
    ("ahead", "left", "seen"),
    [
        (1.5, 0.0, True),
        (-1.5, 0.0, False),
        (0.0, 1.5, False),
        (1.5, 0.8, True),
        (1.5, 1.6, False),
        (1.5, -1.6, False),
        (-0.3, 0.0, False),
    ],
)
def test_what_is_in_the_cameras_cone_is_seen(ahead: float, left: float, seen: bool) -> None:
    post = np.array([0.01, 0.01])
    assert in_view(2.0, 1.0, 0.0, np.array([2.0 + ahead, 1.0 + left, 0.0]), post, LENS) is seen
    assert in_view(2.0, 1.0, np.pi / 2, np.array([2.0 - left, 1.0 + ahead, 0.0]), post, LENS) is seen


def test_the_cones_edge_is_that_of_a_pinhole() -> None:
    """A metre ahead the ground has this depth, and the view this width; the lowest ray meets the ground so near."""
    post = np.array([1e-6, 1e-6])
    tilt = LENS.pitch
    depth = 1.0 * math.cos(tilt) + LENS.up * math.sin(tilt)
    edge = LENS.wide * depth
    for left, seen in ((edge - 0.001, True), (edge + 0.001, False)):
        assert in_view(-LENS.ahead, 0.0, 0.0, np.array([1.0, left, 0.0]), post, LENS) is seen
    near = LENS.up / math.tan(tilt + math.atan(LENS.high))
    for ahead, seen in ((near + 0.001, True), (near - 0.001, False)):
        assert in_view(-LENS.ahead, 0.0, 0.0, np.array([ahead, 0.0, 0.0]), post, LENS) is seen


def test_only_the_next_object_ahead_counts_as_in_the_camera() -> None:
    ahead = judge(standing(2.0, 0.0), None, boxes((3.2, 0.0, 0.0), (1.0, 0.0, 0.0)))
    assert ahead[COLUMN["object_in_camera"]] == 1
    behind = judge(standing(2.0, 0.0, 180.0), None, boxes((3.2, 0.0, 0.0), (1.0, 0.0, 0.0)))
    assert behind[COLUMN["object_in_camera"]] == 0


def test_a_row_is_as_wide_as_its_objects_need() -> None:
    row = judge(standing(2.0, 0.0), None, boxes((3.0, 0.0, 0.0), (4.0, 0.0, 0.0)))
    assert len(row) == FIRST_OBJECT + 2 * OBJECT_COLUMNS
    assert np.isfinite(row).all()
