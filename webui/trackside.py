"""Trackside: what somebody beside the track can tell the console, and no car knows of itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

Point: TypeAlias = tuple[float, float]
"""x and y, metres."""


class Outline(Protocol):
    """The road from above: its two borders and its centre, row by row abreast, in driving order.

    On a closed track the last row repeats the first.
    """

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def centre(self) -> Sequence[Point]: ...
    @property
    def inner(self) -> Sequence[Point]: ...
    @property
    def outer(self) -> Sequence[Point]: ...


class Standing(Protocol):
    """Where the car is and how it is doing at this moment."""

    @property
    def position(self) -> Point:
        """Of the car's front."""

    @property
    def heading(self) -> float:
        """Radians, counter-clockwise from x."""

    @property
    def speed(self) -> float: ...

    @property
    def progress(self) -> float:
        """Per cent of the current lap."""

    @property
    def lap_time(self) -> float:
        """Seconds since the current lap began."""

    @property
    def lap_count(self) -> int:
        """Laps finished."""

    @property
    def laps(self) -> Sequence[float]:
        """Seconds of each of the latest finished laps, oldest first."""

    @property
    def off_track(self) -> int:
        """How often the car left the road and was put back."""


class Trackside(Protocol):
    """Both are asked on the thread of the event loop and answer at once."""

    def outline(self) -> Outline: ...

    def standing(self) -> Standing: ...
