"""Records: the community's forms of metrics, traces and parameters, of episodes worked by hand and driven for real."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cloud_trainer.job import read_job
from cloud_trainer.records import (
    EpisodeRecord,
    evaluation_json,
    metrics_json,
    nearest_waypoints,
    reward_graph,
    simtrace_csv,
)
from cloud_trainer.rollout import Actor, Circuit, Episode, Observations
from inference.actions import ContinuousActions, DiscreteActions
from sim_stub import track as tracks
from sim_stub.dynamics import YAW, X, Y
from sim_stub.parameters import COLUMN, SCALARS, width
from sim_stub.race import Run, Status
from tests.sim_stub.roads import square

SPACE = DiscreteActions(((-30.0, 1.0), (0.0, 1.0), (30.0, 1.0)))


def record(episode: int = 0, phase: str = "training", **more: Any) -> EpisodeRecord:
    told: dict[str, Any] = {"iteration": 0, "trial": 0, "reward": 10.0, "completion": 50.0, "status": "off_track"}
    told |= {"episode": episode, "phase": phase, "began": 0.0, "seconds": 1.0, "laps": ()}
    return EpisodeRecord(**(told | more))


def episode(
    xs: list[float], status: list[Status], run: Run, choices: NDArray[Any], speed: float = 1.0, way: int = 0
) -> Episode:
    """Along the first side of a square road of 4 m, whose waypoints lie 2 m apart; a step a second, a point each."""
    rows = np.zeros((len(xs), width(0)))
    for place, x in enumerate(xs):
        told = {"all_wheels_on_track": status[place] != Status.OFF_TRACK, "x": x, "heading": 0.0, "steps": place + 2}
        told |= {"progress": 100 * x / 16, "speed": speed, "steering_angle": 30.0, "sim_time": 7.0 + place}
        told |= {"is_reversed": way}
        rows[place, [COLUMN[name] for name in told]] = list(told.values())
        behind = int(x // 2) if not way else 8 - int(x // 2) - 1
        rows[place, len(SCALARS) : len(SCALARS) + 2] = behind, behind + 1
    rewards, pose = np.arange(1.0, len(xs) + 1), np.array([xs[0], 0.0, 0.0])
    return Episode(square(), rows, choices, rewards, np.array(status), pose, run)


def pursuit(circuit: Circuit, wild: Callable[[NDArray[np.intp]], NDArray[np.bool_]]) -> Actor:
    """Every car steers for the centre line 0.9 m ahead, but those that are `wild` keep their wheels to the right."""
    race, table = circuit.races.race, np.array(SPACE.choices)

    def act(seen: Observations, /) -> tuple[NDArray[Any], NDArray[np.float32]]:
        cars = np.flatnonzero(~race.done)
        choices = np.zeros(len(cars), np.int64)
        for place, car in enumerate(cars):
            road = race.tracks[int(race.direction[car])]
            at = race.state[car, [X, Y]]
            there, _ = road.place(road.distance_along(at) + 0.9)
            turn = np.arctan2(*(there - at)[::-1]) - race.state[car, YAW]
            angle = np.degrees(np.arctan(2 * 0.164 * np.sin(turn) / np.hypot(*(there - at))))
            choices[place] = np.abs(table[:, 0] - 2.5 * angle).argmin()
        choices[wild(cars)] = 0
        return choices, np.zeros(len(cars), np.float32)

    return act


def drive(
    cars: int,
    directions: NDArray[np.int64] | None = None,
    *,
    track: str = "reInvent2019_wide",
    laps: int = 1,
    **rules: Any,
) -> list[Episode]:
    """The last car goes wrong at once, the others drive as the rules say, spread over the track."""
    actions = [list(choice) for choice in SPACE.choices]
    job = read_job({"agent": {"actions": actions}, "track": track, "rules": rules})
    with Circuit(job, 0, cars, laps=laps, trust=True) as circuit:
        actor = pursuit(circuit, lambda who: who == cars - 1)
        return circuit.drive(actor, 0, np.arange(cars) / cars, directions)[0]


@pytest.fixture(scope="module")
def driven() -> list[Episode]:
    return drive(3, np.array([0, 1, 0]))


def lines(trace: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(trace.decode())))


def told(of: Episode) -> list[EpisodeRecord]:
    return EpisodeRecord.of(of, iteration=4, number=83, trial=3, phase="training", began=100.5)


def test_a_record_is_what_came_of_an_episode_and_survives_json() -> None:
    run = Run(seconds=9.0, completion=12.5, status=Status.OFF_TRACK)
    [record] = told(episode([0.0, 2.0, 1.0], [Status.IN_PROGRESS] * 2 + [Status.OFF_TRACK], run, np.array([0, 1, 0])))
    assert record == EpisodeRecord(4, 83, 3, "training", 6.0, 12.5, "off_track", 100.5, 9.0, ())
    assert EpisodeRecord(**json.loads(json.dumps(dataclasses.asdict(record)))) == record


def test_an_episode_of_several_laps_is_told_lap_by_lap() -> None:
    status = [Status.IN_PROGRESS, Status.LAP_COMPLETE, Status.LAP_COMPLETE, Status.OFF_TRACK]
    run = Run(laps=[3.5, 3.25], seconds=9.0, completion=75.0, status=Status.OFF_TRACK)
    whole = episode([0.0, 16.0, 16.0, 4.0], status, run, np.array([0, 1, 0, 0]))
    assert told(whole) == [
        EpisodeRecord(4, 83, 3, "training", 3.0, 100.0, "lap_complete", 100.5, 3.5, (3.5,)),
        EpisodeRecord(4, 83, 4, "training", 3.0, 100.0, "lap_complete", 104.0, 3.25, (3.25,)),
        EpisodeRecord(4, 83, 5, "training", 4.0, 25.0, "off_track", 107.25, 2.25, ()),
    ]
    run = Run(laps=[3.5, 3.25], seconds=6.75, completion=100.0, status=Status.LAP_COMPLETE)
    done = episode([0.0, 16.0, 16.0], status[:3], run, np.array([0, 1, 0]))
    assert [record.laps for record in told(done)] == [(3.5,), (3.25,)]


def test_training_metrics_by_hand() -> None:
    told = [
        record(0, reward=1.4, completion=12.9, began=0.25, seconds=1.5),
        record(1, reward=2.6, completion=100.0, status="lap_complete", began=1.75, seconds=9.1236),
        record(2, "evaluation", completion=33.4, status="time_up", began=10.8736, seconds=2.0),
        record(2, "evaluation", trial=1, status="reversed", began=12.8736, seconds=2.0),
        record(2, iteration=1, status="immobilized", began=14.8736, seconds=2.0),
    ]
    whole = json.loads(metrics_json(told, "laptime"))
    assert (whole["version"], whole["best_model_metric"]) == (2.0, "laptime")
    assert whole["metrics"][1] == {
        "reward_score": 3,
        "metric_time": 10874,
        "start_time": 1750,
        "elapsed_time_in_milliseconds": 9124,
        "episode": 2,
        "trial": 2,
        "phase": "training",
        "completion_percentage": 100,
        "episode_status": "Lap complete",
    }
    assert [(each["episode"], each["trial"], each["phase"]) for each in whole["metrics"]] == [
        (1, 1, "training"),
        (2, 2, "training"),
        (2, 2, "evaluation"),
        (2, 2, "evaluation"),
        (3, 1, "training"),
    ]
    assert [each["completion_percentage"] for each in whole["metrics"]] == [12, 100, 33, 50, 50]
    labels = [each["episode_status"] for each in whole["metrics"]]
    assert labels == ["Off track", "Lap complete", "Time Up", "Reversed", "Immobilized"]


def test_evaluation_metrics_by_hand() -> None:
    clean = Run(laps=[8.0], seconds=8.0666, completion=100.0, status=Status.LAP_COMPLETE)
    wrong = Run(seconds=3.0, completion=41.7, status=Status.CRASHED, resets=2)
    wrong.mistakes |= {Status.CRASHED: 2, Status.OFF_TRACK: 1}
    first, second = json.loads(evaluation_json([clean, wrong]))["metrics"]
    assert first["start_time"] == 0
    assert first["metric_time"] == first["elapsed_time_in_milliseconds"] == second["start_time"] == 8067
    assert first["completion_percentage"] == 100
    assert first["reset_count"] == 0
    assert second == {
        "completion_percentage": 41,
        "metric_time": 11067,
        "start_time": 8067,
        "elapsed_time_in_milliseconds": 3000,
        "episode_status": "Crashed",
        "crash_count": 2,
        "immobilized_count": 0,
        "off_track_count": 1,
        "reversed_count": 0,
        "reset_count": 3,
        "trial": 2,
    }


def test_the_reward_graph_has_a_row_an_iteration() -> None:
    told = [
        record(0, reward=1.0, completion=10.0, began=0.0, seconds=2.0),
        record(1, reward=2.0, completion=20.0, began=2.0, seconds=2.0),
        record(2, iteration=1, reward=5.0, completion=100.0, began=4.0, seconds=3.0),
        record(3, "evaluation", iteration=1, reward=7.0, completion=60.0, began=7.0, laps=(4.25,)),
        record(3, "evaluation", iteration=1, reward=8.0, completion=100.0, began=8.0, laps=(4.5, 4.125)),
    ]
    assert reward_graph(told).decode().splitlines() == [
        "iteration,episodes,seconds,reward,completion,evaluation_reward,evaluation_completion,laps,best_lap",
        "0,2,4.0,1.5,15.0,,,,",
        "1,1,9.0,5.0,100.0,7.5,80.0,3,4.125",
    ]


def test_a_trace_by_hand() -> None:
    over = Run(seconds=2.0, status=Status.OFF_TRACK)
    going = [Status.IN_PROGRESS, Status.IN_PROGRESS, Status.OFF_TRACK]
    told = episode([0.5, 1.5, 2.5], going, over, np.array([2, 0, 1]))
    trace = simtrace_csv([told, told], SPACE, 40, [10.0, 12.0]).decode()
    assert trace.splitlines()[:5] == [
        "episode,steps,X,Y,yaw,steer,throttle,action,reward,done,all_wheels_on_track,progress,closest_waypoint,track_len,"
        "tstamp,episode_status,pause_duration,obstacle_crash_counter,wall_clock",
        "40,1.0,0.5,0.0,0.0,30.0,1.0,2,0.0,False,True,3.125,0,16.0,10.0,prepare,0.0,0,",
        "40,2.0,0.5,0.0,0.0,30.0,1.0,2,1.0,False,True,3.125,0,16.0,10.0,in_progress,0.0,0,",
        "40,3.0,1.5,0.0,0.0,30.0,1.0,0,2.0,False,True,9.375,1,16.0,11.0,in_progress,0.0,0,",
        "40,4.0,2.5,0.0,0.0,30.0,1.0,1,3.0,True,False,15.625,1,16.0,12.0,off_track,0.0,0,",
    ]
    assert trace.splitlines()[5].startswith("41,1.0,0.5,")
    assert len(trace.splitlines()) == 9
    assert trace.endswith("\n")


def test_continuous_actions_are_what_they_ask_for() -> None:
    ranges = ContinuousActions((-30.0, 30.0), (0.5, 2.5))
    over = Run(seconds=0.0, status=Status.OFF_TRACK)
    told = episode([0.5], [Status.OFF_TRACK], over, np.array([[7.0, 0.0]]), speed=1.25)
    prepared, step = lines(simtrace_csv([told], ranges, 0, [0.0]))
    assert prepared["action"] == step["action"] == "[30.0 1.25]"
    assert (step["steer"], step["throttle"]) == ("30.0", "1.25")


def test_an_episode_that_somebody_stopped_says_so_in_its_last_row() -> None:
    over = Run(seconds=1.0, status=Status.TIME_UP)
    told = episode([0.5, 1.5], [Status.IN_PROGRESS] * 2, over, np.array([0, 0]))
    rows = lines(simtrace_csv([told], SPACE, 0, [0.0]))
    assert [(row["episode_status"], row["done"]) for row in rows] == [
        ("prepare", "False"),
        ("in_progress", "False"),
        ("time_up", "True"),
    ]


def test_on_the_way_back_waypoints_count_from_the_other_end() -> None:
    over = Run(seconds=1.0, status=Status.TIME_UP)
    told = episode([3.5, 2.5, 0.5], [Status.IN_PROGRESS] * 3, over, np.zeros(3, np.int64), way=1)
    # The route back passes (4, 0) as its waypoint 6, (2, 0) as 7, and ends at (0, 0).
    assert nearest_waypoints(told).tolist() == [6, 7, 8]


def test_wall_clock_goes_with_the_time_on_the_track(driven: list[Episode]) -> None:
    began = np.cumsum([0.0, *(each.run.seconds for each in driven)])
    rows = lines(simtrace_csv(driven, SPACE, 0, began[:-1].tolist(), (1000.0, 1002.0)))
    stamps, walls = (np.array([float(row[name]) for row in rows]) for name in ("tstamp", "wall_clock"))
    assert np.allclose(walls, 1000.0 + 2.0 * stamps / began[-1], atol=1e-3)
    assert (walls[0], walls[-1]) == (1000.0, pytest.approx(1002.0, abs=1e-3))


def test_what_was_driven_stands_in_the_trace(driven: list[Episode]) -> None:
    began = [5.0, 100.0, 200.0]
    rows = lines(simtrace_csv(driven, SPACE, 20, began))
    assert [each.run.status for each in driven] == [Status.LAP_COMPLETE, Status.LAP_COMPLETE, Status.OFF_TRACK]
    for number, (told, start) in enumerate(zip(driven, began, strict=True), 20):
        mine = [row for row in rows if row["episode"] == str(number)]
        numbers = {name: np.array([float(row[name]) for row in mine]) for name in ("X", "Y", "yaw", "tstamp", "reward")}
        assert [row["steps"] for row in mine] == [f"{step}.0" for step in range(1, len(told.rewards) + 2)]
        assert [row["done"] for row in mine] == ["False"] * len(told.rewards) + ["True"]
        assert [mine[0]["episode_status"], mine[-1]["episode_status"]] == ["prepare", told.run.status.label]
        assert {row["episode_status"] for row in mine[1:-1]} == {"in_progress"}
        assert [int(row["action"]) for row in mine[1:]] == told.choices.tolist()
        assert [mine[0]["X"], mine[0]["Y"], mine[0]["yaw"]] == [str(value) for value in told.pose.tolist()]
        assert numbers["reward"].sum() == pytest.approx(told.score)
        assert numbers["tstamp"][0] == numbers["tstamp"][1] == start
        assert numbers["tstamp"][-1] == pytest.approx(start + told.run.seconds, abs=0.001)
        assert np.allclose(np.diff(numbers["tstamp"][1:]), 1 / 15, atol=0.0011)
        assert np.abs(numbers["yaw"]).max() <= 180.0
        # A car moves where it points, and not more than its speed lets it.
        step = np.diff(np.stack([numbers["X"], numbers["Y"]]), axis=1)[:, 1:]
        assert np.hypot(*step).max() < 1.15 / 15
        assert np.hypot(*step).sum() == pytest.approx(told.run.seconds, rel=0.05)
    assert {row["track_len"] for row in rows} == {str(tracks.load("reInvent2019_wide").length)}
    assert {(row["pause_duration"], row["obstacle_crash_counter"], row["wall_clock"]) for row in rows} == {
        ("0.0", "0", "")
    }
    assert rows[-1]["all_wheels_on_track"] == "False"
    assert float([row for row in rows if row["episode"] == "21"][-1]["progress"]) == 100


def test_the_closest_waypoint_is_the_nearest_of_all(driven: list[Episode]) -> None:
    for told, back in zip(driven, (False, True, False), strict=True):
        route = told.track.centre[::-1] if back else told.track.centre
        at = told.rows[:, [COLUMN["x"], COLUMN["y"]]]
        away = np.hypot(*np.moveaxis(at[:, None] - route[None], -1, 0))
        mine = np.take_along_axis(away, nearest_waypoints(told)[:, None], axis=1)[:, 0]
        # Where the road bends, a waypoint beyond the two may be nearer to a car at its edge.
        assert (mine == away.min(axis=1)).mean() > 0.9
        assert (mine - away.min(axis=1)).max() < 0.05
