"""The rules of an event: who is on the track, where everybody starts, what ends a run and what a mistake costs.

Names and defaults are those of the original's settings, in small letters, so that what its users know stays true.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from reprlib import repr as brief
from typing import Any, Final

from sim_stub.track import Track


class RulesError(ValueError):
    """The rules cannot be raced by; the message is one sentence that names the key and what it may be."""


class RaceType(StrEnum):
    TIME_TRIAL = "TIME_TRIAL"
    OBJECT_AVOIDANCE = "OBJECT_AVOIDANCE"
    HEAD_TO_BOT = "HEAD_TO_BOT"


RANGES: Final[dict[str, tuple[float, float]]] = {
    "number_of_obstacles": (0, 20),
    "min_distance_between_obstacles": (0.5, 50),
    "number_of_bot_cars": (1, 6),
    "bot_car_speed": (0, 4),
    "min_distance_between_bot_cars": (0.5, 50),
    "lower_lane_change_time": (0.1, 600),
    "upper_lane_change_time": (0.1, 600),
    "lane_change_distance": (0.3, 10),
    "penalty_seconds": (0, 60),
    "round_robin_advance_dist": (0, 1),
    "start_position_offset": (-1000, 1000),
    "number_of_resets": (0, 100_000),
    "off_track_penalty": (0, 60),
    "collision_penalty": (0, 60),
    "reset_behind_dist": (0.3, 5),
    "laps": (1, 1000),
    "max_steps": (1, 100_000),
    "rate": (5, 60),
}
"""What each number may be, ends included."""
LONG: Final = 1 << 53
"""From here on floating point loses whole numbers."""


@dataclass(frozen=True, slots=True)
class Rules:
    """One event. Distances in metres, speeds in m/s, times in seconds. Raises RulesError.

    With `object_positions`, (part of the lap 0..1, lane: 1 inner, -1 outer) each, obstacles stand there and their
    number does not count. Without resets the first mistake ends the run; with some left, the car waits its penalty
    and is set back on the road.
    """

    race_type: RaceType = RaceType.TIME_TRIAL
    reverse_dir: bool = False
    """Drive against the direction in which the track is given."""
    alternate_driving_direction: bool = False
    """Turn round after every episode."""
    change_start_position: bool = False
    """Start every episode `round_robin_advance_dist` of the lap further on."""
    round_robin_advance_dist: float = 0.05
    start_position_offset: float = 0.0
    number_of_obstacles: int = 6
    object_positions: tuple[tuple[float, int], ...] = ()
    randomize_obstacle_locations: bool = False
    min_distance_between_obstacles: float = 2.0
    number_of_bot_cars: int = 3
    bot_car_speed: float = 0.2
    randomize_bot_car_locations: bool = False
    min_distance_between_bot_cars: float = 2.0
    is_lane_change: bool = False
    lower_lane_change_time: float = 3.0
    upper_lane_change_time: float = 5.0
    lane_change_distance: float = 1.0
    penalty_seconds: float = 2.0
    """How long the bots wait after somebody hit one of them."""
    number_of_resets: int = 0
    off_track_penalty: float = 2.0
    collision_penalty: float = 5.0
    reset_behind_dist: float = 1.0
    laps: int = 1
    """Of one run; only its first starts from a standstill."""
    max_steps: int = 100_000
    rate: float = 15.0
    """Decisions a second: the original's camera made 15 pictures."""

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            kind = type(next(field.default for field in fields(self) if field.name == name))
            if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else int):
                raise RulesError(f"{name} must be a{' whole' if kind is int else ''} number, not {value!r}.")
            if not low <= value <= high:
                raise RulesError(f"{name} must lie in {low:g}..{high:g}, not {shown(value)}.")
        for field in fields(self):
            if isinstance(field.default, bool) and not isinstance(getattr(self, field.name), bool):
                raise RulesError(f"{field.name} must be true or false, not {getattr(self, field.name)!r}.")
        if self.lower_lane_change_time > self.upper_lane_change_time:
            raise RulesError("lower_lane_change_time must not be larger than upper_lane_change_time.")
        for part, lane in self.object_positions:
            if not (0 <= part <= 1 and lane in (-1, 1)):
                raise RulesError(
                    f"object_positions must be pairs of 0..1 of the lap and a lane, 1 or -1, not {part}, {lane}."
                )

    @property
    def obstacles(self) -> int:
        """Boxes on the road."""
        if self.race_type is not RaceType.OBJECT_AVOIDANCE:
            return 0
        return len(self.object_positions) or self.number_of_obstacles

    @property
    def bots(self) -> int:
        """Bot cars on the road."""
        return self.number_of_bot_cars if self.race_type is RaceType.HEAD_TO_BOT else 0

    def check(self, track: Track) -> None:
        """Raises RulesError where these rules and this track do not go together."""
        turns = self.alternate_driving_direction or self.change_start_position or self.start_position_offset
        if not track.closed and (turns or self.laps > 1 or self.bots):
            raise RulesError(
                f"{track.title} is an open track: laps must be 1, always from its start, "
                "without bot cars or a change of direction."
            )
        if abs(self.start_position_offset) > track.length:
            raise RulesError(f"start_position_offset must not be longer than the track, {track.length:.1f} m.")
        crowd = max(
            self.bots * self.min_distance_between_bot_cars if self.bots > 1 else 0.0,
            self.obstacles * self.min_distance_between_obstacles
            if self.obstacles > 1 and not self.object_positions
            else 0.0,
        )
        if crowd > track.length - 1.0:  # the last metre before the start stays free
            raise RulesError(f"{track.title} is {track.length:.1f} m long: too short for so many objects so far apart.")


def read_rules(values: Mapping[str, Any]) -> Rules:
    """The rules that a mapping of plain values (of TOML, JSON or keywords) asks for. Raises RulesError."""
    known = {field.name for field in fields(Rules)}
    refuse_unknown("rule", values, known)
    plain = dict(values)
    if "race_type" in plain:
        try:
            plain["race_type"] = RaceType(str(plain["race_type"]).upper().replace("-", "_"))
        except ValueError:
            raise RulesError(f"race_type must be one of {', '.join(RaceType)}, not {plain['race_type']!r}.") from None
    if "object_positions" in plain:
        entries = plain["object_positions"]
        if not isinstance(entries, Iterable):
            raise RulesError(f"object_positions must be pairs of a part of the lap and a lane, not {entries!r}.")
        plain["object_positions"] = tuple(_position(entry) for entry in entries)
    return dataclasses.replace(Rules(), **plain)


def _position(entry: object) -> tuple[float, int]:
    """A pair, or the original's text: "0.25,-1"."""
    try:
        part, lane = entry.split(",") if isinstance(entry, str) else entry  # type: ignore[misc]
        return float(part), int(lane)  # type: ignore[has-type]
    except (TypeError, ValueError):
        raise RulesError(f"object_positions must be pairs of a part of the lap and a lane, not {entry!r}.") from None


def refuse_unknown(kind: str, keys: Iterable[str], known: Collection[str]) -> None:
    """Raises RulesError for the first key that is not known, naming the nearest that is."""
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise RulesError(f"There is no {kind} {key!r}" + (f"; did you mean {near[0]}?" if near else "."))


def shown(number: Any) -> str:
    """A number for people, however long."""
    return brief(number) if isinstance(number, int) and abs(number) >= LONG else f"{number:g}"


def read_setting(text: str) -> tuple[str, Any]:
    """KEY=VALUE, as people type it: the value a number, true, false or a list as TOML writes them, else text."""
    key, equals, value = text.partition("=")
    if not equals:
        raise RulesError(f"{text!r} is not of the form KEY=VALUE.")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value
