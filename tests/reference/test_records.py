"""Records against files of the original: what it wrote, told in our values, must come out as it wrote it."""

from __future__ import annotations

import csv
import json
import re
from io import StringIO
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from cloud_trainer.job import read_job
from cloud_trainer.params import hyperparameters_json
from cloud_trainer.records import SIMTRACE, EpisodeRecord, metrics_json, simtrace_csv
from cloud_trainer.rollout import Episode
from inference.actions import ContinuousActions, DiscreteActions
from sim_stub import survey
from sim_stub.parameters import COLUMN, SCALARS, width
from sim_stub.race import Run, Status
from tests.cloud_trainer.test_records import SPACE, drive
from tests.reference.test_traces import CLOCKWISE, ROUTE, TRACES, road

pytestmark = pytest.mark.skipif(not TRACES.is_dir(), reason=f"the reference data are not there: {TRACES}")

DISCRETE = DiscreteActions(((0.0, 1.0),))
CONTINUOUS = ContinuousActions((-25.0, 25.0), (1.0, 2.0))
FORMS = {
    "whole": re.compile(r"-?\d+"),
    "fraction": re.compile(r"-?\d+\.\d+(e-\d+)?"),
    "truth": re.compile(r"True|False"),
    "word": re.compile(r"[a-z_]+"),
    "pair": re.compile(r"\[-?\d+\.\d+(e-\d+)? \d+\.\d+\]"),
}


def traces(folder: str) -> list[Path]:
    return sorted((TRACES / folder).glob("*iteration.csv"))


def rows_of(trace: str) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(trace)))


def forms(rows: list[dict[str, str]], column: str) -> set[str]:
    return {next(name for name, form in FORMS.items() if form.fullmatch(row[column])) for row in rows}


def as_episode(folder: str, lines: list[dict[str, str]]) -> Episode:
    """An episode of which the original wrote these lines."""
    here, steps = road(folder), lines[1:]
    ground = survey.ground(here)
    rows = np.zeros((len(steps), width(0)))
    names = {"X": "x", "Y": "y", "yaw": "heading", "steps": "steps", "progress": "progress"}
    names |= {"steer": "steering_angle", "throttle": "speed", "tstamp": "sim_time"}
    for row, line in zip(rows, steps, strict=True):
        row[[COLUMN[name] for name in names.values()]] = [float(line[name]) for name in names]
        row[COLUMN["all_wheels_on_track"]] = line["all_wheels_on_track"] == "True"
        spot = survey.locate(ground, survey.FORWARD, row[COLUMN["x"]], row[COLUMN["y"]])
        row[len(SCALARS) : len(SCALARS) + 2] = spot.behind, spot.ahead
    status = np.array([Status[line["episode_status"].upper()] for line in steps])
    choices = np.zeros((len(steps), 2)) if folder == CLOCKWISE else np.array([int(line["action"]) for line in steps])
    return Episode(
        here,
        rows,
        choices,
        np.array([float(line["reward"]) for line in steps]),
        status,
        np.array([float(lines[0][name]) for name in ("X", "Y", "yaw")]),
        Run(seconds=float(rows[-1, COLUMN["sim_time"]] - rows[0, COLUMN["sim_time"]]), status=Status(status[-1])),
    )


@pytest.mark.parametrize("folder", [*ROUTE, CLOCKWISE])
def test_a_trace_comes_out_as_the_original_wrote_it(folder: str) -> None:
    """But for the row of the standing start, which is a step of its own there, with another action."""
    same = total = 0
    for path in traces(folder):
        theirs = [list(group) for _, group in groupby(rows_of(path.read_text()), lambda row: row["episode"])]
        episodes = [as_episode(folder, lines) for lines in theirs]
        began = [float(lines[1]["tstamp"]) for lines in theirs]
        actions = CONTINUOUS if folder == CLOCKWISE else DISCRETE
        ours = rows_of(simtrace_csv(episodes, actions, int(theirs[0][0]["episode"]), began).decode())
        whole = [line for lines in theirs for line in lines]
        assert len(ours) == len(whole)
        for mine, their in zip(ours, whole, strict=True):
            free = {"wall_clock"} | ({"track_len", "closest_waypoint"} if folder == CLOCKWISE else set())
            if their["episode_status"] == "prepare":
                free |= {"steer", "throttle", "action", "all_wheels_on_track", "progress", "closest_waypoint", "tstamp"}
            same += mine["closest_waypoint"] == their["closest_waypoint"]
            total += 1
            for column in their.keys() - free - {"closest_waypoint", "progress", "tstamp"}:
                assert mine[column] == their[column]
            # Their time is a sum of seconds and nanoseconds, their progress a whole number where the lap is complete.
            for column in {"progress", "tstamp"} - free:
                assert float(mine[column]) == pytest.approx(float(their[column]), rel=1e-12)
    assert total > 2000
    assert folder == CLOCKWISE or same / total > 0.999


def test_generations_are_the_first_columns_of_ours() -> None:
    heads = {folder: traces(folder)[0].read_text().partition("\n")[0].split(",") for folder in (*ROUTE, CLOCKWISE)}
    assert heads[CLOCKWISE] == list(SIMTRACE)
    for folder in ROUTE:
        assert heads[folder] == list(SIMTRACE[:17])


@pytest.mark.parametrize(("folder", "actions"), [(ROUTE[1], SPACE), (CLOCKWISE, CONTINUOUS)])
def test_what_we_drive_is_written_in_the_same_forms(folder: str, actions: DiscreteActions | ContinuousActions) -> None:
    theirs = [row for path in traces(folder) for row in rows_of(path.read_text())]
    driven = drive(3)
    mine = rows_of(simtrace_csv(driven, actions, 0, [0.0, 50.0, 100.0], (1.7e9, 1.7e9 + 1)).decode())
    assert list(mine[0]) == list(SIMTRACE)
    for column in theirs[0]:
        assert forms(mine, column) <= forms(theirs, column)
    assert {row["episode_status"] for row in mine} == {row["episode_status"] for row in theirs}
    assert {row["done"] for row in mine if row["episode_status"] in ("prepare", "in_progress")} == {"False"}


def test_metrics_come_out_byte_by_byte() -> None:
    data = (TRACES / "drfc-v5" / "TrainingMetrics.json").read_bytes()
    told = [
        EpisodeRecord(
            iteration=(entry["episode"] - 1) // 20,
            episode=entry["episode"] - (entry["phase"] == "training"),
            trial=0,
            phase=entry["phase"],
            reward=entry["reward_score"],
            completion=entry["completion_percentage"],
            status=entry["episode_status"].lower().replace(" ", "_"),
            began=entry["start_time"] / 1000,
            seconds=entry["elapsed_time_in_milliseconds"] / 1000,
            laps=(),
        )
        for entry in json.loads(data)["metrics"]
    ]
    assert len(told) == 600
    assert metrics_json(told, "progress") == data


def test_hyperparameters_come_out_byte_by_byte() -> None:
    path = TRACES / "drfc-v5" / "hyperparameters.json"
    assert hyperparameters_json(read_job({"hyperparameters": str(path)})) == path.read_bytes()
