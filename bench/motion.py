"""How well the simulated chassis follows real traces: a second's open-loop drive from every row of them.

    python -m bench.motion --traces FOLDER [--plot FILE.png]

FOLDER holds console-v4, drfc-v5 and droa-v6-continuous with the original's simtraces. From a row of a trace the car
is driven by that trace's actions for 15 rows, a second, and its place is compared with the trace's. It is let loose
in what is known at that row and no later: the pose is the row's; speed, wheel angle and the command still under way
come from driving through the episode from its first row, where at each row the pose is put right and a share of what
the row was missed by, along the car and in yaw, is added to the speed and to the wheel angle (TRUST). The profiles
were fitted to the episodes of even number; all figures are of those of odd number.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim_stub.dynamics import (
    CONSOLE,
    DROA,
    FRONT_POINT,
    REAR_AXLE,
    SPEED,
    STATES,
    WHEEL,
    YAW,
    Profile,
    X,
    Y,
    advance,
    chassis,
)

ROWS: Final = 15
"""Rows that are a second, on the mean: the original decides with every picture, 15 times a second."""
WARM: Final = 6
"""Rows of an episode before the first that a drive starts from."""
TRUST: Final = {"console-v4": (0.1, 0.06), "drfc-v5": (0.1, 0.06), "droa-v6-continuous": (0.015, 0.01)}
"""Shares of what a row was missed by that go into the state: along the car, over the time since the row before, into
its speed; in yaw, over the way since then and times a metre, into its wheel angle."""
PROFILES: Final = {"console-v4": CONSOLE, "drfc-v5": CONSOLE, "droa-v6-continuous": DROA}
"""By the version in their metadata, which for drfc-v5 is "4"."""
FIRST_ORDER: Final = {
    "console-v4": Profile(0.25, np.inf, 0.50, 0.0, 0.0, 0.234, np.inf, -REAR_AXLE, 0.0, 0.0),
    "drfc-v5": Profile(0.25, np.inf, 0.50, 0.0, 0.0, 0.234, np.inf, -REAR_AXLE, 0.0, 0.0),
    "droa-v6-continuous": Profile(0.065, np.inf, 0.20, 0.0, 0.0, 0.25, np.inf, -REAR_AXLE, 0.0, 0.0),
}
"""What was known before: the motor's lag, the steering's lag and a wheelbase that has the slip in it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, required=True, help="the folder with the folders of simtraces")
    parser.add_argument("--plot", type=Path, help="where to draw the fit (png)")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    drives: dict[str, tuple[Drives, Drives]] = {}
    for name, profile in PROFILES.items():
        episodes = held_out(read(options.traces / name))
        drives[name] = (
            drive(episodes, profile, TRUST[name]),
            drive(episodes, FIRST_ORDER[name], TRUST[name]),
        )
        ours, before = (made.distances() for made in drives[name])
        stamped = drive(held_out(read(options.traces / name, stamps=True)), profile, TRUST[name]).distances()
        figures[name] = {
            "drives": len(ours),
            **{f"p{part}_mm": _mm(np.percentile(ours, part)) for part in (25, 50, 75, 90)},
            "first_order_p50_mm": _mm(np.median(before)),
            "first_order_p90_mm": _mm(np.percentile(before, 90)),
            "to_first_order": round(float(np.median(ours) / np.median(before)), 3),
            "by_own_stamps_p50_mm": _mm(np.median(stamped)),
            "along_p50_mm": _mm(np.median(np.abs(drives[name][0].errors()[:, 0]))),
            "across_p50_mm": _mm(np.median(np.abs(drives[name][0].errors()[:, 1]))),
        }
    figures["car_step_us"] = {str(batch): round(_cost(batch), 3) for batch in (1, 16, 256)}
    if options.plot:
        _draw(drives, options.plot)
    print(json.dumps(figures))


def _mm(metres: np.floating[Any]) -> float:
    return round(1000 * float(metres), 1)


def _cost(batch: int) -> float:
    """Microseconds a car for a fifteenth of a second under changing commands: the best of five."""
    rng = np.random.default_rng(0)
    command = np.stack([rng.uniform(-0.5, 0.5, (100, batch)), rng.uniform(0, 4, (100, batch))], axis=-1)
    rows, best = chassis(CONSOLE, batch), np.inf
    for _ in range(5):
        state, began = np.zeros((batch, STATES)), time.perf_counter()
        for wanted in command:
            state = advance(state, wanted, 1 / ROWS, rows)
        best = min(best, time.perf_counter() - began)
    return best / len(command) / batch * 1e6


def _draw(drives: dict[str, tuple[Drives, Drives]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, len(drives), figsize=(12, 11), height_ratios=(2, 1))
    for column, (name, (ours, before)) in enumerate(drives.items()):
        road, spread = axes[0, column], axes[1, column]
        wanted = np.abs(np.diff(ours.real[:, [0, -1], 2], axis=1)[:, 0])
        chosen = np.linspace(0, len(wanted) - 1, 8).astype(int)
        for place, start in enumerate(np.argsort(wanted)[chosen]):
            corner = ours.real[start, 0, :2]
            turn = -float(ours.real[start, 0, 2])
            cos, sin = np.cos(turn), np.sin(turn)
            for poses, style in ((ours.real, "k-"), (ours.driven, "C0-"), (before.driven, "C1:")):
                way = (poses[start, :, :2] - corner) @ np.array([[cos, sin], [-sin, cos]])
                road.plot(way[:, 0], way[:, 1] - 0.6 * place, style, linewidth=1.3)
        road.set(title=name, xlabel="ahead, m", aspect="equal", yticks=[])
        for made, called, style in ((ours, "this model", "C0-"), (before, "first order", "C1:")):
            ordered = np.sort(made.distances()) * 1000
            spread.plot(
                ordered, np.linspace(0, 100, len(ordered)), style, label=f"{called}: {np.median(ordered):.0f} mm"
            )
        spread.axvline(60, color="0.7", linewidth=0.8)
        spread.set(xlim=(0, 250), ylim=(0, 100), xlabel="apart after a second, mm", ylabel="% of drives")
        spread.legend(loc="lower right", fontsize=8)
    axes[0, 0].plot([], [], "k-", label="real")
    axes[0, 0].plot([], [], "C0-", label="this model")
    axes[0, 0].plot([], [], "C1:", label="first order")
    axes[0, 0].legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=80)


@dataclass(frozen=True, slots=True)
class Episode:
    """One episode from its second row on, since the first may be before the car was set in place.

    `clock` float64[n] are the seconds at which the poses (float64[n, 3]: origin's x, y, yaw) were taken; `command`
    float64[n, 2] acts from there to the next row.
    """

    number: int
    clock: NDArray[np.float64]
    pose: NDArray[np.float64]
    command: NDArray[np.float64]


def read(folder: Path, *, stamps: bool = False) -> list[Episode]:
    """The episodes of all simtraces of a folder; with `stamps` each pose is as old as its own row's stamp says.

    Up to version 4 poses are those of the pictures, a fifteenth of a second apart, and the stamps' jitter tells nothing
    about them; from version 6 on a pose is taken a fixed time after the stamp of the row before.
    """
    episodes = []
    for file in sorted(folder.glob("*-iteration.csv"), key=lambda path: int(path.name.split("-")[0])):
        with file.open(newline="") as lines:
            table = list(csv.DictReader(lines))
        for number, group in groupby(table, key=lambda row: int(row["episode"])):
            rows = list(group)
            data = np.array([[float(r[k]) for k in ("tstamp", "X", "Y", "yaw", "steer", "throttle")] for r in rows])
            gaps = np.flatnonzero(np.diff(data[:, 0]) > 0.2)
            data = data[: gaps[0]] if len(gaps) else data
            if len(data) <= ROWS:
                continue
            stamp, yaw = data[:, 0], np.unwrap(np.deg2rad(data[:, 3]))
            along = FRONT_POINT * np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
            pose = np.concatenate([data[:, 1:3] - along, yaw[:, None]], axis=1)
            command = np.stack([np.deg2rad(data[:, 4]), data[:, 5]], axis=1)
            pictures = stamp[:-1] if "v6" in folder.name else np.arange(len(data) - 1) / ROWS
            episodes.append(Episode(number, stamp[1:] if stamps else pictures, pose[1:], command[1:]))
    return episodes


@dataclass(frozen=True, slots=True)
class Drives:
    """Drives of a second: float64[n, ROWS + 1, 3] poses `driven` and of the trace (`real`), and the actions' row."""

    driven: NDArray[np.float64]
    real: NDArray[np.float64]
    command: NDArray[np.float64]

    def errors(self) -> NDArray[np.float64]:
        """float64[n, 2]: how far ahead and to the left of the real car the driven one ends, m."""
        apart, yaw = self.driven[:, -1, :2] - self.real[:, -1, :2], self.real[:, -1, 2]
        cos, sin = np.cos(yaw), np.sin(yaw)
        return np.stack([apart[:, 0] * cos + apart[:, 1] * sin, apart[:, 1] * cos - apart[:, 0] * sin], axis=1)

    def distances(self) -> NDArray[np.float64]:
        """float64[n]: metres between the ends."""
        ahead, left = self.errors().T
        return np.asarray(np.hypot(ahead, left), np.float64)


def held_out(episodes: list[Episode]) -> list[Episode]:
    """Those that no profile was fitted to."""
    return [episode for episode in episodes if episode.number % 2]


def drive(episodes: list[Episode], profile: Profile, trust: tuple[float, float], every: int = 1) -> Drives:
    """From each `every`th row that has WARM rows before it and a second after it."""
    starts, real, command, spans = [], [], [], []
    longest = max(len(episode.clock) for episode in episodes)
    state = np.zeros((len(episodes), STATES))
    state[:, [X, Y, YAW]] = [episode.pose[0] for episode in episodes]
    rows = chassis(profile, len(episodes))
    for row in range(longest):
        live = np.array([len(episode.clock) > row for episode in episodes])
        if row:
            before = row - 1
            acts = [e.command[before] if on else np.zeros(2) for e, on in zip(episodes, live, strict=True)]
            span = np.array(
                [e.clock[row] - e.clock[before] if on else 0.0 for e, on in zip(episodes, live, strict=True)]
            )
            state = advance(state, np.array(acts), span, rows)
            for car in np.flatnonzero(live):
                _put_right(state[car], episodes[car].pose[row], span[car], trust)
        for car in np.flatnonzero(live):
            episode = episodes[car]
            if row >= WARM and row + ROWS < len(episode.clock) and row % every == 0:
                starts.append(state[car].copy())
                real.append(episode.pose[row : row + ROWS + 1])
                command.append(episode.command[row : row + ROWS])
                spans.append(np.diff(episode.clock[row : row + ROWS + 1]))
    state, actions, spans_ = np.array(starts), np.array(command), np.array(spans)
    rows = chassis(profile, len(state))
    driven = [state[:, :3]]
    for row in range(ROWS):
        state = advance(state, actions[:, row], spans_[:, row], rows)
        driven.append(state[:, :3])
    return Drives(np.stack(driven, axis=1), np.array(real), actions)


def _put_right(state: NDArray[np.float64], pose: NDArray[np.float64], span: float, trust: tuple[float, float]) -> None:
    miss = pose - state[[X, Y, YAW]]
    turned = (miss[2] + np.pi) % (2 * np.pi) - np.pi
    ahead = miss[0] * np.cos(pose[2]) + miss[1] * np.sin(pose[2])
    state[SPEED] += trust[0] * ahead / span
    state[WHEEL] += trust[1] * turned / (span * max(abs(state[SPEED]), 0.3))
    state[[X, Y, YAW]] = pose


if __name__ == "__main__":
    main()
