"""Pictures of what happened: a training's graph, paths over the track, and a film of a car that plays in a browser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from itertools import groupby
from pathlib import Path
from statistics import mean
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import av
import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cloud_trainer.evaluate import Result
from drivers.disk import write_atomically
from sim_stub.above import Above
from sim_stub.dynamics import SPEED
from sim_stub.parameters import COLUMN
from sim_stub.race import MISTAKES, Race, Status
from sim_stub.rules import RaceType
from sim_stub.track import Track

if TYPE_CHECKING:  # an evaluation does without PyTorch, which stands behind these two
    from cloud_trainer.records import EpisodeRecord
    from cloud_trainer.rollout import Episode

FILM: Final = (640, 600)
STRIP: Final = 124
"""Rows below the track, for what the camera sees and for words."""
DARK: Final = 32
TEXT: Final = (230, 230, 230)
MARKS: Final = {Status.OFF_TRACK: "x", Status.CRASHED: "*", Status.REVERSED: "<", Status.IMMOBILIZED: "s"}
REWARD: Final = "#1d8102"
COMPLETION: Final = "#0073bb"
EVALUATED: Final = "#d13212"
"""Colours of the manual's reward graph."""


def paths_figure(results: Sequence[Result]) -> Figure:
    """Each model's paths over the track, coloured by speed, with a mark where something went wrong."""
    return _paths_figure(
        [
            _Panel(
                result.track,
                f"{result.name} on {result.track.title}: {result.clean} of {len(result.trials)} clean",
                [trial.path for trial in result.trials],
                [trial.run.laps for trial in result.trials],
            )
            for result in results
        ]
    )


def episodes_figure(episodes: Sequence[Episode]) -> Figure:
    """The same of episodes, which must be some: a picture for each of their tracks."""
    panels = []
    for track in {episode.track.name: episode.track for episode in episodes}.values():
        here = [episode for episode in episodes if episode.track.name == track.name]
        over = sum(episode.run.completion >= 100 for episode in here)
        title = f"{track.title}: {over} of {len(here)} finished"
        panels.append(_Panel(track, title, [_path(each) for each in here], [each.run.laps for each in here]))
    return _paths_figure(panels)


def _path(episode: Episode) -> NDArray[np.float64]:
    x, y, clock = episode.rows[:, [COLUMN[name] for name in ("x", "y", "sim_time")]].T
    speed = np.hypot(np.diff(x), np.diff(y)) / np.diff(clock)
    return np.column_stack([x, y, np.append(speed, 0.0), episode.status])


@dataclass(frozen=True, slots=True)
class _Panel:
    """A track and paths over it, float64[steps, 4] as evaluate.Trial has them, with the seconds of each one's laps."""

    track: Track
    title: str
    paths: Sequence[NDArray[np.float64]]
    laps: Sequence[Sequence[float]]

    def best_lap(self) -> tuple[float, NDArray[np.float64]] | None:
        """The seconds of the fastest, and its part of the path."""
        laps = [(seconds, car, lap) for car, each in enumerate(self.laps) for lap, seconds in enumerate(each)]
        if not laps:
            return None
        seconds, car, lap = min(laps)
        path = self.paths[car]
        lines = [0, *np.flatnonzero(path[:, 3] == Status.LAP_COMPLETE).tolist()]
        return seconds, path[lines[lap] : lines[lap + 1] + 1]


def _paths_figure(panels: Sequence[_Panel]) -> Figure:
    figure = Figure(figsize=(7.5, 0.4 + 5.0 * len(panels)), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    fastest = max(float(path[:, 2].max()) for panel in panels for path in panel.paths)
    norm = mpl.colors.Normalize(0.0, fastest)
    for axes, panel in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
        _road(axes, panel.track)
        for path in panel.paths:
            axes.add_collection(_driven(path, cmap="viridis", norm=norm, linewidths=1.2, alpha=0.8))
        title, best = panel.title, panel.best_lap()
        if best:
            seconds, path = best
            title += f", best lap {seconds:.2f} s"
            axes.add_collection(_driven(path, colors="black", linewidths=3.6))
            axes.add_collection(_driven(path, cmap="viridis", norm=norm, linewidths=2.0))
            axes.plot([], [], color="black", linewidth=3.6, label="best lap")
        whole = np.concatenate(panel.paths)
        for status in MISTAKES:
            where = whole[whole[:, 3] == status, :2]
            if len(where):
                label = status.label.replace("_", " ")
                axes.plot(*where.T, MARKS[status], color="crimson", markersize=9, label=label)
        axes.set_title(title)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper left")
        colours = mpl.cm.ScalarMappable(norm, "viridis")
        figure.colorbar(colours, ax=axes, label="speed, m/s", shrink=0.7)
    return figure


def _driven(path: NDArray[np.float64], **style: Any) -> LineCollection:
    points = path[:, :2]
    moved = np.hypot(*np.diff(points, axis=0).T) < 0.5  # being set back is no driving
    lines = list(np.stack([points[:-1], points[1:]], axis=1)[moved])
    return LineCollection(lines, array=path[:-1, 2][moved] if "cmap" in style else None, **style)


def reward_figure(records: Sequence[EpisodeRecord]) -> Figure:
    """The manual's reward graph: reward and completion of each training episode, and their means over each iteration.

    A third line is the mean completion of each evaluation.
    """
    figure = Figure(figsize=(10, 5), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    left = figure.subplots()
    right = left.twinx()
    driven = [record for record in records if record.phase == "training"]
    tried = [record for record in records if record.phase == "evaluation"]
    episodes = [record.episode + 1 for record in driven]
    right.scatter(
        episodes, [each.completion for each in driven], 9, COMPLETION, alpha=0.3, linewidths=0, label="completion"
    )
    left.scatter(episodes, [each.reward for each in driven], 9, REWARD, alpha=0.3, linewidths=0, label="reward")
    right.plot(*_means(driven, lambda each: each.completion), ".-", color=COMPLETION, label="mean completion")
    left.plot(*_means(driven, lambda each: each.reward), ".-", color=REWARD, label="mean reward")
    right.plot(
        *_means(tried, lambda each: each.completion), ".-", color=EVALUATED, label="mean completion in evaluation"
    )
    left.set_xlabel("training episodes")
    left.set_ylabel("reward of an episode", color=REWARD)
    right.set_ylabel("completion, per cent", color=COMPLETION)
    right.set_ylim(-3, 103)
    left.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=5, frameon=False, markerscale=2)
    return figure


def _means(records: Sequence[EpisodeRecord], value: Callable[[EpisodeRecord], float]) -> tuple[list[int], list[float]]:
    """Over each iteration, at the count of training episodes at its end."""
    parts = [list(part) for _, part in groupby(records, lambda record: record.iteration)]
    ends = [part[-1].episode + (part[-1].phase == "training") for part in parts]
    return ends, [mean(value(record) for record in part) for part in parts]


def png(figure: Figure) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def save_figure(figure: Figure, out: Path) -> None:
    """Write it whole or not at all. Raises OSError."""
    write_atomically(out, png(figure))


def _road(axes: mpl.axes.Axes, track: Track) -> None:
    quads = np.stack([track.inner[:-1], track.inner[1:], track.outer[1:], track.outer[:-1]], axis=1)
    axes.add_collection(PolyCollection(list(quads), facecolors="#e3e6e8", edgecolors="#e3e6e8"))
    for border in (track.inner, track.outer):
        axes.plot(*border.T, color="#8a9299", linewidth=1)
    axes.plot(*track.centre.T, color="#d59a1b", linewidth=0.8, linestyle=(0, (3, 3)))
    start = np.stack([track.inner[0], track.outer[0]])
    axes.plot(*start.T, color="black", linewidth=2)
    axes.set_aspect("equal")
    axes.set_xlabel("x, m")
    axes.set_ylabel("y, m")


class Film:
    """A film of one car of a race, from above, with what its camera sees in a corner: H.264, for any browser.

    A watcher for `evaluate`. It is written beside `out` and takes its place when it is closed without an error.
    """

    def __init__(self, out: Path, track: Track, rate: float, car: int = 0) -> None:
        """Raises OSError."""
        self._out, self._car = out, car
        self._part = out.with_name(f".{out.name}.part")
        self._above = Above(track, (FILM[0], FILM[1] - STRIP))
        height, width = self._above.image.shape[:2]
        self._corner = ((FILM[1] - STRIP - height) // 2, (FILM[0] - width) // 2)
        self._canvas = np.full((FILM[1], FILM[0], 3), DARK, np.uint8)
        self._container = av.open(str(self._part), "w", format="mp4", options={"movflags": "+faststart"})
        self._stream = self._container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
        self._stream.width, self._stream.height = FILM
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = {"preset": "superfast", "crf": "26"}
        self._over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                for packet in self._stream.encode():
                    self._container.mux(packet)
            self._container.close()
            if kind is None:
                self._part.replace(self._out)
        finally:
            self._part.unlink(missing_ok=True)

    def __call__(self, race: Race, pictures: NDArray[np.uint8]) -> None:
        if self._over:
            return
        self._over = bool(race.done[self._car])
        top, left = self._corner
        canvas = self._canvas.copy()
        image = self._above.paint(race, self._car)
        canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
        canvas[-122:-2, 2:162] = pictures[self._car]
        run = race.runs[self._car]
        words = (
            f"lap {min(len(run.laps) + 1, race.rules.laps)} of {race.rules.laps}",
            f"{race.clock[self._car]:.2f} s",
            f"{race.state[self._car, SPEED]:.2f} m/s",
            Status(int(race.status[self._car])).label.replace("_", " "),
        )
        for line, word in enumerate(words):
            at = (180, FILM[1] - STRIP + 28 + 26 * line)
            cv2.putText(canvas, word, at, cv2.FONT_HERSHEY_SIMPLEX, 0.6, TEXT, 1, cv2.LINE_AA)
        frame = av.VideoFrame.from_ndarray(canvas, format="bgr24")
        for packet in self._stream.encode(frame):
            self._container.mux(packet)


def table(results: Sequence[Result]) -> str:
    """A line a model, for people."""
    objects = any(result.rules.race_type is not RaceType.TIME_TRIAL for result in results)
    head = ["model", "clean trials", "laps", "best lap", "mean lap", "best 3 laps", "completion", "off track"]
    rows = [head + (["crashes"] if objects else []) + ["resets"]]
    for result in results:
        wanted = len(result.trials) * result.rules.laps
        completion = float(np.mean([trial.run.completion for trial in result.trials]))
        cells = [
            result.name,
            f"{result.clean} of {len(result.trials)}",
            f"{len(result.laps)} of {wanted}",
            _seconds(min(result.laps, default=None)),
            _seconds(float(np.mean(result.laps)) if result.laps else None),
            _seconds(result.three_laps),
            f"{completion:.0f} %",
            str(result.count(Status.OFF_TRACK)),
        ]
        crashes = [str(result.count(Status.CRASHED))] if objects else []
        rows.append(cells + crashes + [str(sum(trial.run.resets for trial in result.trials))])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(wide) if place == 0 else cell.rjust(wide)
            for place, (cell, wide) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
