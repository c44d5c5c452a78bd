"""The console's own API: one table of routes, by which requests are checked, obeyed and described."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import tarfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from calibration.calibration import DEFAULT, Calibration, CalibrationError, Channel, pulse_of, units_of
from drivers.rig import DeviceError
from drivers.system import System, time_zones
from inference.actions import DiscreteActions
from inference.package import ModelPackage, PackageError, name_of
from vehicle import doctor
from vehicle.car import NO_WIFI, Car, Refusal
from vehicle.gate import DriveMode
from vehicle.models import Installed, ModelExists, ModelMissing
from vehicle.state import VehicleState
from webui.about import About, about
from webui.auth import Attempts, Password, Session, Sessions, WeakPassword, unlock
from webui.logs import DaemonLog, Journal, Page
from webui.trackside import Outline, Trackside
from webui.wheel import NotYours, Wheel

COOKIE: Final = "__Host-hotlap"
STOCK_COOKIE: Final = "deepracer_token"
CHUNK: Final = 1 << 20
CHUNK_PATIENCE: Final = 30.0
"""Seconds that an upload may bring nothing."""
UPLOAD_FLOOR: Final = 256 << 20
"""Bytes that an upload leaves free on the disk."""
HEAD: Final = 512
"""Bytes at the beginning of a file by which an archive is known."""
FULL: Final = "The disk is full: delete a model first."
NO_SYSTEM: Final = "hotlap cannot change the settings of this machine; change them in the system."
LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


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


# What goes in and out -----------------------------------------------------------------------------------------------


class Strict(Struct, forbid_unknown_fields=True):
    """A body of which every key is known."""


class Nothing(Strict):
    """An empty object."""


Percent: TypeAlias = Annotated[float, Meta(ge=0, le=100)]
Byte: TypeAlias = Annotated[int, Meta(ge=0, le=255)]
Secret: TypeAlias = Annotated[str, Meta(max_length=1024)]
Wire: TypeAlias = Literal["steering", "throttle"]


class Login(Strict):
    password: Secret
    name: Annotated[str, Meta(max_length=40)] = ""


class NewPassword(Strict):
    old: Secret
    new: Secret


class Speed(Strict):
    percent: Percent


class Mode(Strict):
    mode: DriveMode


class Choice(Strict):
    name: Annotated[str, Meta(max_length=100)]


class Wish(Strict):
    wish: Literal["take", "ask", "give", "keep", "leave"]


class Trim(Strict):
    """In the stock console's units: the pulse is 1.5 ms + value x 10 us (steering) or x 4.5 us (throttle)."""

    min: float
    mid: float
    max: float
    polarity: Literal[1, -1]


class Trims(Strict):
    steering: Trim
    throttle: Trim
    default: dict[str, Trim]


class Light(Strict):
    red: Byte
    green: Byte
    blue: Byte


class Lit(Strict):
    available: bool
    reason: str | None
    red: Byte
    green: Byte
    blue: Byte


class SessionState(Strict):
    unlocked: bool
    must_change: bool
    csrf: str | None
    name: str | None
    car: str


class Token(Strict):
    csrf: str


class Actions(Strict):
    type: Literal["discrete", "continuous"]
    actions: list[dict[str, float]] | None = None
    steering_angle: tuple[float, float] | None = None
    speed: tuple[float, float] | None = None


class Model(Strict):
    name: str
    size: int
    installed: float
    sensors: tuple[str, ...]
    network: str
    algorithm: str
    actions: Actions | None
    status: Literal["ready", "unfit", "damaged"]
    reason: str | None
    active: bool


class Replace(Strict):
    replace: bool = False


class WifiState(Strict):
    available: bool
    ssid: str | None
    strength: int | None
    connecting: bool
    hardware_address: str | None
    known: tuple[str, ...]


class Network(Strict):
    """`wifi` is None where hotlap does not manage it; `reason` says why."""

    addresses: tuple[str, ...]
    names: tuple[str, ...]
    wifi: WifiState | None
    reason: str


class InReach(Strict):
    ssid: str
    strength: int
    security: str


class Join(Strict):
    ssid: Annotated[str, Meta(min_length=1, max_length=64)]
    password: Secret = ""
    hidden: bool = False


class Forget(Strict):
    ssid: Annotated[str, Meta(min_length=1, max_length=64)]


class Ssh(Strict):
    """`reason` says why it cannot be switched here."""

    enabled: bool
    switchable: bool
    reason: str


class Switch(Strict):
    enabled: bool


class HostName(Strict):
    """`reason` says why it cannot be changed here."""

    name: str
    changeable: bool
    reason: str


class Name(Strict):
    name: Annotated[str, Meta(min_length=1, max_length=63)]


class TimeZone(Strict):
    """`zone` is empty where it is not known; `zones` are those to choose from."""

    zone: str
    zones: tuple[str, ...]
    changeable: bool
    reason: str


class Zone(Strict):
    zone: Annotated[str, Meta(min_length=1, max_length=100)]


class Power(Strict):
    """Whether the console can restart the car and switch it off, and why not."""

    available: bool
    reason: str


class LogQuery(Strict):
    level: Literal["debug", "info", "warning", "error"] = "debug"
    text: Annotated[str, Meta(max_length=200)] = ""
    after: Annotated[str, Meta(max_length=300, pattern="^[A-Za-z0-9=;_-]*$")] = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 500


# Who is there -------------------------------------------------------------------------------------------------------


async def session(desk: Desk, visit: Visit) -> SessionState:
    return state_of(desk, visit.session)


def state_of(desk: Desk, person: Session | None) -> SessionState:
    """What the page is told of its session."""
    if person is None:
        return SessionState(False, False, None, None, socket.gethostname())
    return SessionState(True, desk.password.must_change, person.csrf, person.name, socket.gethostname())


async def enter(desk: Desk, address: str, password: str, name: str) -> tuple[str, Session]:
    """Log in: the new session's cookie, and the session. Raises TooManyAttempts, or Locked."""
    if not await unlock(desk.password, desk.attempts, address, password):
        raise Locked("This is not the car's password. Forgotten? Run hotlap-car reset-password on the car.")
    plain = "".join(letter for letter in name if letter.isprintable()).strip()
    return desk.sessions.open(plain or "Somebody")


def leave(desk: Desk, request: web.Request) -> None:
    """End the sessions of this browser."""
    for name in (COOKIE, STOCK_COOKIE):
        desk.sessions.close(request.cookies.get(name, ""))


async def change_password(desk: Desk, visit: Visit, old: str, new: str) -> tuple[str, Session]:
    """The new session and its cookie; all others have ended. Raises TooManyAttempts, Refusal or WeakPassword."""
    if not await unlock(desk.password, desk.attempts, visit.request.remote or "", old):
        raise Refusal("The old password is wrong.")

    async def change() -> tuple[str, Session]:
        await desk.password.change(new)
        desk.sessions.close_all()
        return desk.sessions.open(visit.person.name)

    # Who goes away meanwhile has changed it all the same, and no session of before may outlive that.
    return await asyncio.shield(change())


async def login(desk: Desk, visit: Visit) -> web.Response:
    cookie, person = await enter(desk, visit.request.remote or "", visit.body.password, visit.body.name)
    leave(desk, visit.request)
    return _with_cookie(state_of(desk, person), cookie)


async def password(desk: Desk, visit: Visit) -> web.Response:
    cookie, person = await change_password(desk, visit, visit.body.old, visit.body.new)
    return _with_cookie(Token(person.csrf), cookie)


async def logout(desk: Desk, visit: Visit) -> web.Response:
    leave(desk, visit.request)
    return _with_cookie({}, None)


async def logout_everywhere(desk: Desk, visit: Visit) -> web.Response:
    desk.sessions.close_all()
    return _with_cookie({}, None)


def _with_cookie(answer: object, cookie: str | None) -> web.Response:
    response = web.Response(body=msgspec.json.encode(answer), content_type="application/json")
    if cookie is None:
        response.del_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="Strict")
    else:
        response.set_cookie(COOKIE, cookie, path="/", secure=True, httponly=True, samesite="Strict")
    return response


# Driving ------------------------------------------------------------------------------------------------------------


async def state(desk: Desk, visit: Visit) -> web.Response:
    return web.Response(text=desk.car.snapshot().to_json(), content_type="application/json")


async def track(desk: Desk, visit: Visit) -> object:
    return _drawn(desk.trackside.outline()) if desk.trackside else None


async def start(desk: Desk, visit: Visit) -> dict[str, str]:
    desk.wheel.take(visit.person)
    desk.car.start()
    return {}


async def stop(desk: Desk, visit: Visit) -> dict[str, str]:
    desk.car.stop()
    return {}


async def max_speed(desk: Desk, visit: Visit) -> dict[str, str]:
    desk.wheel.take(visit.person)
    desk.car.limit_speed(visit.body.percent / 100)
    return {}


async def mode(desk: Desk, visit: Visit) -> dict[str, str]:
    desk.wheel.take(visit.person)
    desk.car.select(visit.body.mode)
    return {}


async def model(desk: Desk, visit: Visit) -> dict[str, str]:
    desk.wheel.take(visit.person)
    try:
        # Who closes the page while a model is loading has chosen it all the same.
        await asyncio.shield(desk.car.load(visit.body.name))
    except PackageError as error:
        raise Refusal(str(error)) from error
    return {}


async def wheel(desk: Desk, visit: Visit) -> dict[str, str]:
    getattr(desk.wheel, visit.body.wish)(visit.person)
    return {}


# Models -------------------------------------------------------------------------------------------------------------


async def models(desk: Desk, visit: Visit) -> list[Model]:
    return described(desk.car, await asyncio.to_thread(desk.car.store.installed))


def described(car: Car, installed: list[Installed]) -> list[Model]:
    """What people are told of each installed model; the loaded one is active."""
    active = car.driver.package.name if car.driver else None
    return [_described(car, each, active) for each in installed]


def _described(car: Car, each: Installed, active: str | None) -> Model:
    common = (each.name, each.size, each.when)
    if each.package is None:
        return Model(*common, (), "", "", None, "damaged", each.fault, each.name == active)
    metadata, unfit = each.package.metadata, car.unfit(each.package)
    space = metadata.action_space
    if isinstance(space, DiscreteActions):
        rows = [{"steering_angle": angle, "speed": speed} for angle, speed in space.choices]
        actions = Actions("discrete", rows)
    else:
        actions = Actions("continuous", None, space.steering_deg, space.speed)
    sensors = tuple(sensor.value for sensor in metadata.sensors)
    status: Literal["ready", "unfit"] = "unfit" if unfit else "ready"
    return Model(*common, sensors, metadata.network, metadata.algorithm, actions, status, unfit, each.name == active)


async def upload(desk: Desk, visit: Visit) -> Model:
    name = name_of_upload(visit.request.match_info["name"])
    return await install(desk, visit.request.content, visit.request.content_length, name, visit.query)


def name_of_upload(name: str) -> str:
    """The model's name for a file's. Raises Malformed."""
    stem = name.removesuffix(".gz").removesuffix(".tgz").removesuffix(".tar")
    if not 1 <= len(stem) <= 100 or not any(letter.isascii() and letter.isalnum() for letter in stem):
        raise Malformed("A model's name needs a letter or digit and at most 100 characters: rename the file.")
    if any(not letter.isprintable() or letter in "/\\" for letter in stem) or ".." in stem:
        raise Malformed("A model's name has no slashes and no dots in a row: rename the file.")
    return name_of(Path(stem.replace(".", "_")))


async def install(desk: Desk, content: Any, length: int | None, name: str, wish: Replace) -> Model:
    """Take an archive in as it comes, and install it. Raises what STATUS names; the models are then as before."""
    store, most = desk.car.store, desk.largest_upload
    if length is not None and length > most:
        raise TooLarge(f"The file has {length >> 20} MB; a model may have {most >> 20} MB.")
    if name in desk.uploading:
        raise ModelExists(f"A model named {name} is being uploaded already: wait for it, or rename the file.")
    if not wish.replace and name in store.names():
        raise ModelExists(f"A model named {name} is installed already: rename the file, or replace that model.")
    if desk.room() - (length or 0) < UPLOAD_FLOOR:
        raise OSError(FULL)
    archive = store.spool()
    desk.uploading.add(name)
    try:
        await _receive(desk, content, archive)
    except BaseException:
        desk.uploading.discard(name)
        await asyncio.to_thread(archive.unlink, True)
        raise
    # Who goes away now has uploaded it all the same.
    package = await asyncio.shield(_add(desk, archive, name, wish.replace))
    installed = await asyncio.to_thread(store.installed)
    return next(model for model in described(desk.car, installed) if model.name == package.name)


async def _add(desk: Desk, archive: Path, name: str, replace: bool) -> ModelPackage:
    try:
        return await desk.car.store.add(archive, name, replace)
    except PackageError as error:
        raise PackageError(str(error).replace(archive.name, name)) from error
    finally:
        desk.uploading.discard(name)
        await asyncio.to_thread(archive.unlink, True)


async def _receive(desk: Desk, content: Any, archive: Path) -> None:
    file = await asyncio.to_thread(archive.open, "wb")
    try:
        received, head = 0, b""
        while chunk := await _next(content):
            received += len(chunk)
            if received > desk.largest_upload:
                raise TooLarge(f"The file is too large: a model may have {desk.largest_upload >> 20} MB.")
            if desk.room() - len(chunk) < UPLOAD_FLOOR:
                raise OSError(FULL)
            if len(head) < HEAD:
                head += chunk[: HEAD - len(head)]
                if len(head) == HEAD:
                    _look_at(head)
            await asyncio.to_thread(file.write, chunk)
        _look_at(head)
    finally:
        await asyncio.to_thread(file.close)


def _look_at(head: bytes) -> None:
    """Raises NoArchive."""
    if not head.startswith((b"\x1f\x8b", b"PK")):
        try:
            tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise NoArchive("This is no .tar.gz archive: choose the file as it was downloaded.") from error


async def _next(content: Any) -> bytes:
    try:
        async with asyncio.timeout(CHUNK_PATIENCE):
            chunk: bytes = await content.read(CHUNK)
            return chunk
    except TimeoutError as error:
        raise Malformed("The upload has stalled; try again.") from error


async def delete(desk: Desk, visit: Visit) -> dict[str, str]:
    desk.wheel.take(visit.person)
    await desk.car.remove(visit.request.match_info["name"])
    return {}


# Calibration --------------------------------------------------------------------------------------------------------


async def calibration(desk: Desk, visit: Visit) -> Trims:
    return trims(desk.car.calibration)


def trims(calibration: Calibration) -> Trims:
    return Trims(**_both(calibration), default=_both(DEFAULT))


def _both(calibration: Calibration) -> dict[str, Trim]:
    return {wire: _trim(wire, getattr(calibration, wire)) for wire in ("steering", "throttle")}


def _trim(wire: str, channel: Channel) -> Trim:
    low, mid, high = (units_of(wire, pulse) for pulse in (channel.min_ns, channel.mid_ns, channel.max_ns))
    return Trim(low, mid, high, 1 if channel.polarity > 0 else -1)


async def calibrate(desk: Desk, visit: Visit) -> Trims:
    desk.wheel.take(visit.person)
    await set_trim(desk.car, visit.request.match_info["wire"], visit.body)
    return trims(desk.car.calibration)


async def set_trim(car: Car, wire: str, trim: Trim) -> None:
    """Store a new trim of one wire. Raises Malformed, CalibrationError, Refusal or OSError."""
    if wire not in ("steering", "throttle"):
        raise Malformed("A calibration is that of steering or of throttle.")
    low, mid, high = (pulse_of(wire, units) for units in (trim.min, trim.mid, trim.max))
    if not low < mid < high:
        raise CalibrationError("The centre must lie between the two ends: begin the calibration again.")
    channel = Channel(low, mid, high, trim.polarity)
    old = car.calibration
    await car.calibrate(
        Calibration(channel, old.throttle) if wire == "steering" else Calibration(old.steering, channel)
    )


# The car and its computer -------------------------------------------------------------------------------------------


async def describe(desk: Desk, visit: Visit) -> About:
    return await asyncio.to_thread(about, desk.car, desk.address.fingerprint)


async def examine(desk: Desk, visit: Visit) -> list[doctor.Finding]:
    return await asyncio.to_thread(doctor.examine, desk.car.settings)


async def network(desk: Desk, visit: Visit) -> Network:
    wireless = desk.car.wireless
    found = desk.car.network or desk.address.addresses, desk.address.names
    if wireless is None:
        return Network(*found, None, NO_WIFI)
    try:
        wifi, known = await wireless.wifi(), await wireless.known()
        places = tuple(await wireless.addresses())
    except DeviceError as error:
        return Network(*found, None, str(error))
    if not wifi.available:
        return Network(places, desk.address.names, None, "This car has no Wi-Fi adapter, or it is switched off.")
    state = WifiState(wifi.available, wifi.ssid, wifi.strength, wifi.connecting, wifi.hardware_address, tuple(known))
    return Network(places, desk.address.names, state, "")


async def networks(desk: Desk, visit: Visit) -> list[InReach]:
    """Raises DeviceError or Refusal."""
    if desk.car.wireless is None:
        raise Refusal(NO_WIFI)
    return [InReach(seen.ssid, seen.strength, seen.security.value) for seen in await desk.car.wireless.scan()]


async def join(desk: Desk, visit: Visit) -> dict[str, str]:
    await change_network(desk, visit.person, visit.body.ssid, visit.body.password, visit.body.hidden)
    return {}


async def change_network(desk: Desk, person: Session, ssid: str, password: str, hidden: bool = False) -> None:
    """Take the car, which must stand, to another network. Raises what Car.join raises, and NotYours."""
    desk.wheel.take(person)
    if desk.car.engaged:
        raise Refusal("Stop the car before it changes the network.")
    # Who asked for it may be cut off by it.
    await asyncio.shield(desk.car.join(ssid, password, hidden))


async def forget(desk: Desk, visit: Visit) -> dict[str, str]:
    desk.wheel.take(visit.person)
    if desk.car.wireless is None:
        raise Refusal(NO_WIFI)
    await desk.car.wireless.forget(visit.body.ssid)
    return {}


async def ssh(desk: Desk, visit: Visit) -> Ssh:
    system = desk.car.system
    if system is None:
        return Ssh(await _ssh_answers(), False, NO_SYSTEM)
    try:
        return Ssh(await system.ssh(), True, "")
    except DeviceError as error:
        return Ssh(await _ssh_answers(), False, str(error))


async def _ssh_answers() -> bool:
    try:
        async with asyncio.timeout(1.0):
            _, writer = await asyncio.open_connection("127.0.0.1", 22)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def switch_ssh(desk: Desk, visit: Visit) -> Ssh:
    await change_ssh(desk, visit.person, visit.body.enabled)
    return await ssh(desk, visit)


async def change_ssh(desk: Desk, person: Session, on: bool) -> None:
    """Raises NotYours, Refusal or DeviceError."""
    # Who goes away meanwhile has switched it all the same.
    await asyncio.shield(_system(desk, person).switch_ssh(on))


async def host_name(desk: Desk, visit: Visit) -> HostName:
    system = desk.car.system
    if system is None:
        return HostName(socket.gethostname(), False, NO_SYSTEM)
    try:
        return HostName(await system.host_name(), True, "")
    except DeviceError as error:
        return HostName(socket.gethostname(), False, str(error))


async def rename(desk: Desk, visit: Visit) -> HostName:
    await _system(desk, visit.person).rename(visit.body.name)
    return await host_name(desk, visit)


async def time_zone(desk: Desk, visit: Visit) -> TimeZone:
    system = desk.car.system
    zones = tuple(await asyncio.to_thread(time_zones))
    if system is None:
        return TimeZone(_zone_here(), zones, False, NO_SYSTEM)
    try:
        return TimeZone(await system.time_zone(), zones, True, "")
    except DeviceError as error:
        return TimeZone(_zone_here(), zones, False, str(error))


def _zone_here() -> str:
    return os.path.realpath("/etc/localtime").partition("/zoneinfo/")[2]


async def set_time_zone(desk: Desk, visit: Visit) -> TimeZone:
    await _system(desk, visit.person).set_time_zone(visit.body.zone)
    return await time_zone(desk, visit)


async def power(desk: Desk, visit: Visit) -> Power:
    if desk.car.system is None:
        return Power(False, NO_SYSTEM)
    try:
        await desk.car.system.check_power()
    except DeviceError as error:
        return Power(False, str(error))
    return Power(True, "")


async def reboot(desk: Desk, visit: Visit) -> dict[str, str]:
    await _system_at_rest(desk, visit.person).reboot()
    return {}


async def power_off(desk: Desk, visit: Visit) -> dict[str, str]:
    await _system_at_rest(desk, visit.person).power_off()
    return {}


def _system(desk: Desk, person: Session) -> System:
    """The car's computer, for whoever may have the wheel. Raises NotYours or Refusal."""
    desk.wheel.take(person)
    if desk.car.system is None:
        raise Refusal(NO_SYSTEM)
    return desk.car.system


def _system_at_rest(desk: Desk, person: Session) -> System:
    """The same, while the car stands. Raises NotYours or Refusal."""
    system = _system(desk, person)
    if desk.car.engaged:
        raise Refusal("Stop the car first.")
    return system


async def light(desk: Desk, visit: Visit) -> Lit:
    available = desk.car.fittings.lights
    return Lit(available, None if available else "This car has no tail light that can be coloured.", *desk.car.colour)


async def paint(desk: Desk, visit: Visit) -> Lit:
    await desk.car.paint((visit.body.red, visit.body.green, visit.body.blue))
    return await light(desk, visit)


# Logs ---------------------------------------------------------------------------------------------------------------


async def logs(desk: Desk, visit: Visit) -> Page:
    query = visit.query
    return await _log(desk, visit).read(query.after, LEVELS[query.level], query.text, query.limit)


async def download(desk: Desk, visit: Visit) -> web.Response:
    which = visit.request.match_info["which"]
    page = await _log(desk, visit).read("", 0, "", 1000)
    lines = [
        f"{datetime.fromtimestamp(entry.when, UTC).isoformat(timespec='milliseconds')} {entry.level} "
        f"{entry.source}: {entry.text}\n"
        for entry in page.entries
    ]
    headers = {"Content-Disposition": f'attachment; filename="hotlap-{which}.txt"'}
    return web.Response(text="".join(lines) or f"{page.reason or 'Nothing yet.'}\n", headers=headers)


def _log(desk: Desk, visit: Visit) -> DaemonLog | Journal:
    which = visit.request.match_info["which"]
    if which not in ("daemon", "system"):
        raise Malformed("There are two logs: daemon and system.")
    return desk.log if which == "daemon" else desk.journal


def _drawn(outline: Outline) -> dict[str, object]:
    lines = {"centre": outline.centre, "inner": outline.inner, "outer": outline.outer}
    rounded = {name: [(round(x, 3), round(y, 3)) for x, y in line] for name, line in lines.items()}
    return {"name": outline.name, "title": outline.title, **rounded}


Obeyed: TypeAlias = dict[str, str]
ROUTES: Final = (
    Route("GET", "/api/v1/session", "Who I am", session, SessionState, open=True),
    Route("POST", "/api/v1/login", "Unlock the car", login, SessionState, Login, open=True),
    Route("POST", "/api/v1/logout", "End this session", logout, Obeyed, Nothing),
    Route("POST", "/api/v1/logout_everywhere", "End every session", logout_everywhere, Obeyed, Nothing),
    Route("POST", "/api/v1/password", "Change the password; all other sessions end", password, Token, NewPassword),
    Route("GET", "/api/v1/state", "The car's snapshot", state, VehicleState),
    Route("GET", "/api/v1/track", "The road from above, when the car is simulated", track, Any),
    Route("POST", "/api/v1/start", "Let the wishes of the mode through", start, Obeyed, Nothing),
    Route("POST", "/api/v1/stop", "Bring the car to rest; always works", stop, Obeyed, Nothing),
    Route("POST", "/api/v1/max_speed", "Set the maximum-speed slider", max_speed, Obeyed, Speed),
    Route("POST", "/api/v1/mode", "Choose who may wish; the car stops first", mode, Obeyed, Mode),
    Route("POST", "/api/v1/model", "Load an installed model; the car stops first", model, Obeyed, Choice),
    Route("POST", "/api/v1/wheel", "Take, ask for, hand over, keep or leave the wheel", wheel, Obeyed, Wish),
    Route("GET", "/api/v1/models", "The installed models", models, list[Model]),
    Route("PUT", "/api/v1/models/{name}", "Upload a model's archive", upload, Model, query=Replace, status=201),
    Route("DELETE", "/api/v1/models/{name}", "Delete a model", delete, Obeyed),
    Route("GET", "/api/v1/calibration", "The trim of both wires", calibration, Trims),
    Route("PUT", "/api/v1/calibration/{wire}", "Store a trim; the car must stand", calibrate, Trims, Trim),
    Route("GET", "/api/v1/about", "What this car and its computer are", describe, About),
    Route("GET", "/api/v1/doctor", "What is wired, found, permitted and working", examine, list[doctor.Finding]),
    Route("GET", "/api/v1/network", "Where the car can be found", network, Network),
    Route("GET", "/api/v1/network/seen", "The Wi-Fi networks in reach", networks, list[InReach]),
    Route("POST", "/api/v1/network/join", "Join a Wi-Fi network; the car must stand", join, Obeyed, Join),
    Route("POST", "/api/v1/network/forget", "Forget a Wi-Fi network", forget, Obeyed, Forget),
    Route("GET", "/api/v1/ssh", "Whether SSH is on", ssh, Ssh),
    Route("PUT", "/api/v1/ssh", "Switch SSH, also for the next starts", switch_ssh, Ssh, Switch),
    Route("GET", "/api/v1/host_name", "The computer's host name", host_name, HostName),
    Route("PUT", "/api/v1/host_name", "Give the computer another host name", rename, HostName, Name),
    Route("GET", "/api/v1/time_zone", "The computer's time zone, and those to choose from", time_zone, TimeZone),
    Route("PUT", "/api/v1/time_zone", "Put the computer into another time zone", set_time_zone, TimeZone, Zone),
    Route("GET", "/api/v1/power", "Whether the car can be restarted and switched off from here", power, Power),
    Route("POST", "/api/v1/reboot", "Restart the computer; the car must stand", reboot, Obeyed, Nothing),
    Route("POST", "/api/v1/power_off", "Switch the computer off; the car must stand", power_off, Obeyed, Nothing),
    Route("GET", "/api/v1/light", "The tail light's colour", light, Lit),
    Route("PUT", "/api/v1/light", "Colour the tail light", paint, Lit, Light),
    Route("GET", "/api/v1/logs/{which}", "The latest entries of a log: daemon or system", logs, Page, query=LogQuery),
    Route("GET", "/api/v1/logs/{which}/download", "A log as a text file", download, None),
)
