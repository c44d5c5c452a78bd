"""Figures of a training: what they show is what was told them."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from cloud_trainer.draw import COMPLETION, EVALUATED, REWARD, episodes_figure, png, reward_figure
from cloud_trainer.records import EpisodeRecord
from cloud_trainer.rollout import Episode
from sim_stub.parameters import COLUMN
from sim_stub.race import Status
from tests.cloud_trainer.test_records import drive, record


@pytest.fixture(scope="module")
def driven() -> list[Episode]:
    return drive(3, laps=2)


TOLD = [
    record(0, reward=1.0, completion=10.0),
    record(1, reward=3.0, completion=20.0),
    record(2, "evaluation", completion=40.0),
    record(2, "evaluation", completion=60.0),
    record(2, iteration=1, reward=5.0, completion=100.0),
    record(3, iteration=1, reward=8.0, completion=50.0),
    record(4, "evaluation", iteration=1, completion=100.0),
]


def lines(figure: Figure) -> dict[str, tuple[list[float], list[float], object]]:
    """x, y and colour of every line of a graph, by its label."""
    found = [line for axes in figure.axes for line in axes.get_lines()]
    return {
        str(line.get_label()): (
            np.array(line.get_xdata()).tolist(),
            np.array(line.get_ydata()).tolist(),
            line.get_color(),
        )
        for line in found
    }


def test_the_reward_graph_shows_episodes_and_means_over_iterations() -> None:
    figure = reward_figure(TOLD)
    left, right = figure.axes
    points = [axes.collections[0].get_offsets() for axes in (left, right)]
    assert np.asarray(points[0]).tolist() == [[1, 1.0], [2, 3.0], [3, 5.0], [4, 8.0]]
    assert np.asarray(points[1]).tolist() == [[1, 10.0], [2, 20.0], [3, 100.0], [4, 50.0]]
    assert lines(figure) == {
        "mean reward": ([2, 4], [2.0, 6.5], REWARD),
        "mean completion": ([2, 4], [15.0, 75.0], COMPLETION),
        "mean completion in evaluation": ([2, 4], [50.0, 100.0], EVALUATED),
    }


def test_the_reward_graph_has_rewards_on_the_left_and_per_cents_on_the_right() -> None:
    left, right = reward_figure(TOLD).axes
    assert left.yaxis.get_ticks_position() == "left"
    assert right.yaxis.get_ticks_position() == "right"
    assert "reward" in left.get_ylabel()
    assert "completion" in right.get_ylabel()
    low, high = right.get_ylim()
    assert -10 < low < 0
    assert 100 < high < 110


def test_everything_in_the_reward_graph_is_named() -> None:
    (legend,) = reward_figure(TOLD).legends
    assert {text.get_text() for text in legend.get_texts()} == {
        *("reward", "completion", "mean reward", "mean completion", "mean completion in evaluation"),
    }


@pytest.mark.parametrize("told", [TOLD[:2], TOLD[2:4], []])
def test_a_graph_of_little_is_still_a_picture(told: list[EpisodeRecord]) -> None:
    picture = cv2.imdecode(np.frombuffer(png(reward_figure(told)), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (550, 1100, 3)
    assert picture[0, 0].tolist() == [255, 255, 255]


def thick(figure: Figure, track: int = 0) -> list[LineCollection]:
    found = [each for each in figure.axes[track].collections if isinstance(each, LineCollection)]
    return [each for each in found if np.max(each.get_linewidth()) > 1.5]


def test_paths_of_episodes_lead_along_their_rows(driven: list[Episode]) -> None:
    paths = [each for each in episodes_figure(driven).axes[0].collections if isinstance(each, LineCollection)]
    for path, told in zip(paths, driven, strict=False):
        points = np.array([segment[0] for segment in path.get_segments()])
        assert np.allclose(points, told.rows[:-1, [COLUMN["x"], COLUMN["y"]]])
        # At 15 steps a second, and 1 m/s once the car is at its speed.
        assert np.asarray(path.get_array())[20:] == pytest.approx(1.0, abs=0.15)


def test_the_best_lap_is_marked(driven: list[Episode]) -> None:
    laps = [lap for told in driven for lap in told.run.laps]
    figure = episodes_figure(driven)
    assert len(laps) == 4
    assert figure.axes[0].get_title() == f"A to Z Speedway: 2 of 3 finished, best lap {min(laps):.2f} s"
    best = next(told for told in driven if min(laps) in told.run.laps)
    lap = best.run.laps.index(min(laps))
    ends = [0, *np.flatnonzero(best.status == Status.LAP_COMPLETE)]
    rows = best.rows[ends[lap] : ends[lap + 1] + 1, [COLUMN["x"], COLUMN["y"]]]
    for line in thick(figure):
        assert np.allclose([segment[0] for segment in line.get_segments()], rows[:-1])
        assert np.allclose(line.get_segments()[-1][1], rows[-1])
    assert len(thick(figure)) == 2


def test_a_mistake_is_marked_where_it_was_made(driven: list[Episode]) -> None:
    (mark,) = [line for line in episodes_figure(driven).axes[0].get_lines() if line.get_label() == "off track"]
    wrong = driven[-1].rows[-1]
    assert np.array(mark.get_xydata()).tolist() == [[wrong[COLUMN["x"]], wrong[COLUMN["y"]]]]


def test_without_a_lap_none_is_marked(driven: list[Episode]) -> None:
    figure = episodes_figure(driven[-1:])
    assert figure.axes[0].get_title() == "A to Z Speedway: 0 of 1 finished"
    assert not thick(figure)


def test_every_track_has_a_picture_of_its_own(driven: list[Episode]) -> None:
    other = drive(2, track="Oval_track")
    titles = [axes.get_title() for axes in episodes_figure([*driven, *other]).axes if axes.get_title()]
    assert [title.partition(":")[0] for title in titles] == ["A to Z Speedway", "Oval"]


def test_a_car_that_came_nowhere_is_drawn_too(driven: list[Episode]) -> None:
    still = dataclasses.replace(driven[-1], rows=driven[-1].rows[:1], status=driven[-1].status[-1:])
    figure = episodes_figure([still])
    assert png(figure).startswith(b"\x89PNG")
    assert "off track" in lines(figure)
