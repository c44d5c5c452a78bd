"""The referee against traces of the original: of every row's pose it must see what the original wrote down."""

from __future__ import annotations

import csv
import dataclasses
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from sim_stub import survey, track
from sim_stub.dynamics import DEEPRACER, FRONT_POINT, YAW, X, Y
from sim_stub.judge import progress_of
from sim_stub.parameters import COLUMN, SCALARS
from sim_stub.race import Race, Status
from sim_stub.rules import Rules
from sim_stub.track import Track

DATA = Path(__file__).parents[3] / "shared" / "data"
TRACES = DATA / "traces"
pytestmark = pytest.mark.skipif(not TRACES.is_dir(), reason=f"the reference data is not there: {TRACES}")

ROUTE = ("console-v4", "drfc-v5")
"""Driven on a route that lies beside them."""
CLOCKWISE = "droa-v6-continuous"
"""A to Z Speedway, clockwise. That route is not there: its place is judged by our own drawing of the road."""
SHIFT, LINE = np.array([3.9915, 2.7927]), 0.7069
"""Where our drawing has the origin of their world, and how far along it their first waypoint lies (m): both fitted to
the progress of all their rows, three numbers for two thousand."""
BEHIND, AHEAD = len(SCALARS), len(SCALARS) + 1


class Trace(NamedTuple):
    """All rows of a folder of traces, and what `judge` made of them."""

    step: np.ndarray
    pose: np.ndarray
    """X, Y (m) and yaw (degrees), as the original wrote them."""
    wish: np.ndarray
    """Steering (degrees) and speed (m/s)."""
    progress: np.ndarray
    waypoint: np.ndarray
    wheels: np.ndarray
    status: np.ndarray
    start: np.ndarray
    judged: np.ndarray
    """Rows of parameters; NaN for those of the standing start, which nobody judges."""
    verdict: np.ndarray
    """The status by which the row was judged."""


@cache
def road(folder: str) -> Track:
    if folder in ROUTE:
        return track.load(str(DATA / "tracks" / "reinvent_base.npy"))
    ours = track.load("A to Z Speedway").reversed()
    return dataclasses.replace(ours, centre=ours.centre - SHIFT, inner=ours.inner - SHIFT, outer=ours.outer - SHIFT)


@cache
def judged(folder: str) -> Trace:
    """Every row, put before a referee as the pose of a car of its own race, episode by episode."""
    parts = []
    for path in sorted((TRACES / folder).glob("*iteration.csv")):
        with path.open(newline="") as file:
            lines = list(csv.DictReader(file))
        for _, group in groupby(lines, lambda line: line["episode"]):
            parts.append(judge_episode(road(folder), 0.0 if folder in ROUTE else LINE, list(group)))
    return Trace(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def judge_episode(here: Track, line: float, lines: list[dict[str, str]]) -> Trace:
    def numbers(*names: str) -> np.ndarray:
        return np.array([[float(line[name]) for name in names] for line in lines])

    pose, wish, step, progress = numbers("X", "Y", "yaw"), numbers("steer", "throttle"), *numbers("steps", "progress").T
    # The original starts each episode 5 % of the lap further on than the last.
    first = float(here.distance_along(pose[0, :2])) / here.length - progress[0] / 100 - line / here.length
    start = round(first * 20) / 20 + line / here.length
    # A car that is off the road a row too early must not hide the rows that follow.
    rules = Rules(start_position_offset=start * here.length, number_of_resets=1000, off_track_penalty=0.0)
    race = Race(here, rules, DEEPRACER, 1)
    rows = np.full((len(lines), race.rows.shape[1]), np.nan)
    verdict = ["prepare"] * len(lines)
    # The row of the standing start is nobody's step.
    for number in np.flatnonzero(step > 1):
        x, y, degrees = pose[number]
        yaw = np.radians(degrees)
        race.state[0, [X, Y, YAW]] = x - FRONT_POINT * np.cos(yaw), y - FRONT_POINT * np.sin(yaw), yaw
        rows[number] = race.judge(np.array([[np.radians(wish[number, 0]), wish[number, 1]]]))[0]
        verdict[number] = Status(int(race.status[0])).label
    return Trace(
        step,
        pose,
        wish,
        progress,
        np.array([int(line["closest_waypoint"]) for line in lines]),
        np.array([line["all_wheels_on_track"] == "True" for line in lines]),
        np.array([line["episode_status"] for line in lines]),
        np.full(len(lines), start),
        rows,
        np.array(verdict),
    )


def steps_of(folder: str) -> Trace:
    """Without the rows of standing starts."""
    trace = judged(folder)
    return Trace(*(values[trace.step > 1] for values in trace))


def column(trace: Trace, name: str) -> np.ndarray:
    return trace.judged[:, COLUMN[name]]


@pytest.mark.parametrize("folder", [*ROUTE, CLOCKWISE])
def test_the_traces_hold_what_makes_them_a_test(folder: str) -> None:
    trace = steps_of(folder)
    assert len(trace.step) > 2000
    assert len(set(trace.start.tolist())) >= 6
    assert {"in_progress", "off_track", "lap_complete"} <= set(trace.status.tolist())
    assert 0.1 < (~trace.wheels).mean() + (trace.status == "off_track").mean() < 0.5


@pytest.mark.parametrize("folder", ROUTE)
def test_progress_is_reproduced_on_every_row(folder: str) -> None:
    trace = steps_of(folder)
    assert np.abs(column(trace, "progress") - trace.progress).max() < 1e-9


@pytest.mark.parametrize("folder", ROUTE)
def test_progress_follows_from_the_place_and_the_progress_before(folder: str) -> None:
    trace, ground = judged(folder), survey.ground(road(folder))
    before = 0.0
    for row in range(len(trace.step)):
        if row == 0 or trace.step[row] < trace.step[row - 1]:
            before = 0.0
        along = survey.locate(ground, survey.FORWARD, trace.pose[row, 0], trace.pose[row, 1]).along
        done, _ = progress_of(along / ground.reach[0, -1] - trace.start[row], before)
        assert done == pytest.approx(trace.progress[row], abs=0.01)
        before = done


@pytest.mark.parametrize("folder", [*ROUTE, CLOCKWISE])
def test_what_the_original_wrote_of_pose_action_and_step_stands_in_the_rows(folder: str) -> None:
    trace = steps_of(folder)
    assert np.array_equal(column(trace, "steps"), trace.step)
    assert np.allclose(column(trace, "x"), trace.pose[:, 0], rtol=0, atol=1e-9)
    assert np.allclose(column(trace, "y"), trace.pose[:, 1], rtol=0, atol=1e-9)
    assert np.allclose(column(trace, "heading"), trace.pose[:, 2], rtol=0, atol=1e-9)
    assert np.allclose(column(trace, "steering_angle"), trace.wish[:, 0], rtol=0, atol=1e-9)
    assert np.array_equal(column(trace, "speed"), trace.wish[:, 1])


def nearest_waypoint(trace: Trace, here: Track) -> np.ndarray:
    behind, ahead = trace.judged[:, [BEHIND, AHEAD]].astype(int).T
    away = [np.hypot(*(here.centre[which] - trace.pose[:, :2]).T) for which in (behind, ahead)]
    return np.asarray(np.where(away[1] < away[0], ahead, behind))


@pytest.mark.parametrize("folder", ROUTE)
def test_the_nearer_of_the_closest_waypoints_is_the_one_they_wrote(folder: str) -> None:
    trace = steps_of(folder)
    assert (nearest_waypoint(trace, road(folder)) == trace.waypoint).mean() >= 0.999
    assert len(set(trace.waypoint.tolist())) > 100


@pytest.mark.parametrize("folder", ROUTE)
def test_wheels_are_on_the_road_where_the_original_saw_them(folder: str) -> None:
    trace = steps_of(folder)
    assert (column(trace, "all_wheels_on_track") == trace.wheels).mean() >= 0.9995


@pytest.mark.parametrize("folder", ROUTE)
def test_runs_end_when_and_as_theirs_did(folder: str) -> None:
    """One row of 7,300 is off the track by their poses alone: their physics ran on while they looked."""
    trace = steps_of(folder)
    assert (trace.verdict != trace.status).sum() <= 1
    assert np.array_equal(column(trace, "is_offtrack") == 1, trace.verdict == "off_track")
    off = trace.status == "off_track"
    assert (column(trace, "is_offtrack")[off] == 1).mean() > 0.98
    assert not column(trace, "is_offtrack")[~off].any()
    assert np.array_equal(trace.verdict == "lap_complete", trace.status == "lap_complete")


def test_the_other_way_round_our_drawing_of_their_road_gives_nearly_their_numbers() -> None:
    """It lies within 15 mm of theirs: half the rows are right to 6 mm of progress, those of cars far out to 12 cm."""
    trace = steps_of(CLOCKWISE)
    error = np.abs(column(trace, "progress") - trace.progress)
    assert np.median(error) < 0.06
    assert np.percentile(error, 95) < 0.4
    assert error.max() < 1.0
    assert (column(trace, "all_wheels_on_track") == trace.wheels).mean() > 0.985
    assert (trace.verdict == trace.status).mean() > 0.99
    assert (column(trace, "progress")[trace.status == "lap_complete"] > 99).all()
