"""The desk: what all routes of the console share, what a visit and a route are, and how a refusal is told."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeAlias

from aiohttp import web
from msgspec import Meta, Struct

from calibration.calibration import CalibrationError
from drivers.rig import DeviceError
from inference.package import PackageError
from vehicle.car import Car, Refusal
from vehicle.models import ModelExists, ModelMissing
from webui.auth import Attempts, Password, Session, Sessions, WeakPassword
from webui.logs import DaemonLog, Journal
from webui.trackside import Trackside
from webui.wheel import NotYours, Wheel

COOKIE: Final = "__Host-hotlap"
STOCK_COOKIE: Final = "deepracer_token"
FULL: Final = "The disk is full: delete a model first."


@dataclass(frozen=True, slots=True)
class Address:
    """Where the console can be found."""

    names: tuple[str, ...]
    addresses: tuple[str, ...]
    fingerprint: str


@dataclass(slots=True)
class Desk:
    """What all routes share; `room` is the bytes that are free on the disk."""

    car: Car
    trackside: Trackside | None
    password: Password
    sessions: Sessions
    attempts: Attempts
    wheel: Wheel
    log: DaemonLog
    largest_upload: int
    room: Callable[[], int]
    address: Address
    uploading: set[str]

    @property
    def journal(self) -> Journal:
        return Journal()


class Malformed(ValueError):
    """What was sent is not what its route takes; the message says what is."""


class TooLarge(ValueError):
    """An upload is larger than allowed."""


class NoArchive(ValueError):
    """An upload is of a kind that holds no model."""


class Locked(PermissionError):
    """Not without logging in, or not before something else; `status` is that of HTTP."""

    def __init__(self, sentence: str, status: int = 401) -> None:
        super().__init__(sentence)
        self.status = status


STATUS: Final[Mapping[type[Exception], int]] = {
    Malformed: 400,
    CalibrationError: 400,
    ModelMissing: 404,
    Refusal: 409,
    NotYours: 409,
    ModelExists: 409,
    WeakPassword: 409,
    TooLarge: 413,
    NoArchive: 415,
    DeviceError: 409,
    PackageError: 422,
    OSError: 507,
}
"""What each refusal is in terms of HTTP."""


def sentence(error: Exception) -> str:
    """What people are told of a refusal: its own words, but for what the disk says."""
    if isinstance(error, OSError) and error.errno is not None:
        return FULL if error.errno == errno.ENOSPC else f"The car's disk does not take it: {error.strerror}."
    return str(error)


@dataclass(frozen=True, slots=True)
class Visit:
    """One request, checked: who asks (None only where a route is open to all), the body and the query as declared."""

    request: web.Request
    session: Session | None
    body: Any
    query: Any

    @property
    def person(self) -> Session:
        assert self.session is not None
        return self.session


Handler: TypeAlias = Callable[[Desk, Visit], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Route:
    """`answer` is the type of the JSON that comes back; None is some other kind of content."""

    method: str
    path: str
    summary: str
    handler: Handler
    answer: Any
    body: type[Struct] | None = None
    query: type[Struct] | None = None
    open: bool = False
    status: int = 200


class Strict(Struct, forbid_unknown_fields=True):
    """A body of which every key is known."""


class Nothing(Strict):
    """An empty object."""


Secret: TypeAlias = Annotated[str, Meta(max_length=1024)]
Obeyed: TypeAlias = dict[str, str]
