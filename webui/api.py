"""The console's own API: driving, calibration, light and logs; and the table of all routes, from every room."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, TypeAlias

from aiohttp import web
from msgspec import Meta

from calibration.calibration import DEFAULT, Calibration, CalibrationError, Channel, pulse_of, units_of
from inference.package import PackageError
from vehicle.car import Car, Refusal
from vehicle.gate import DriveMode
from vehicle.state import VehicleState
from webui import computer, garage, people
from webui.desk import Desk, Malformed, Nothing, Obeyed, Route, Strict, Visit
from webui.logs import DaemonLog, Journal, Page
from webui.trackside import Outline

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
Percent: TypeAlias = Annotated[float, Meta(ge=0, le=100)]
Byte: TypeAlias = Annotated[int, Meta(ge=0, le=255)]
Wire: TypeAlias = Literal["steering", "throttle"]


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


class LogQuery(Strict):
    level: Literal["debug", "info", "warning", "error"] = "debug"
    text: Annotated[str, Meta(max_length=200)] = ""
    after: Annotated[str, Meta(max_length=300, pattern="^[A-Za-z0-9=;_-]*$")] = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 500


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


async def light(desk: Desk, visit: Visit) -> Lit:
    available = desk.car.fittings.lights
    return Lit(available, None if available else "This car has no tail light that can be coloured.", *desk.car.colour)


async def paint(desk: Desk, visit: Visit) -> Lit:
    await desk.car.paint((visit.body.red, visit.body.green, visit.body.blue))
    return await light(desk, visit)


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


ROUTES: Final = (
    *people.ROUTES,
    *garage.ROUTES,
    *computer.ROUTES,
    Route("GET", "/api/v1/state", "The car's snapshot", state, VehicleState),
    Route("GET", "/api/v1/track", "The road from above, when the car is simulated", track, Any),
    Route("POST", "/api/v1/start", "Let the wishes of the mode through", start, Obeyed, Nothing),
    Route("POST", "/api/v1/stop", "Bring the car to rest; always works", stop, Obeyed, Nothing),
    Route("POST", "/api/v1/max_speed", "Set the maximum-speed slider", max_speed, Obeyed, Speed),
    Route("POST", "/api/v1/mode", "Choose who may wish; the car stops first", mode, Obeyed, Mode),
    Route("POST", "/api/v1/model", "Load an installed model; the car stops first", model, Obeyed, Choice),
    Route("POST", "/api/v1/wheel", "Take, ask for, hand over, keep or leave the wheel", wheel, Obeyed, Wish),
    Route("GET", "/api/v1/calibration", "The trim of both wires", calibration, Trims),
    Route("PUT", "/api/v1/calibration/{wire}", "Store a trim; the car must stand", calibrate, Trims, Trim),
    Route("GET", "/api/v1/light", "The tail light's colour", light, Lit),
    Route("PUT", "/api/v1/light", "Colour the tail light", paint, Lit, Light),
    Route("GET", "/api/v1/logs/{which}", "The latest entries of a log: daemon or system", logs, Page, query=LogQuery),
    Route("GET", "/api/v1/logs/{which}/download", "A log as a text file", download, None),
)
