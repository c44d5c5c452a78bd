"""The device console: one car's state and verbs, over HTTP and WebSocket, for a browser beside the track."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final, TypeAlias

import cv2
import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from inference.package import PackageError
from vehicle.car import Car, Event, Refusal
from vehicle.gate import DriveMode
from vehicle.models import ModelMissing
from vehicle.settings import Console
from webui.shared import Shared
from webui.trackside import Outline, Standing, Trackside

FRONTEND: Final = Path(__file__).parent / "frontend"
BEAT: Final = 0.05
"""Seconds between two glances: the standing is in each, the state in every second one."""
BEATS_A_LOOK: Final = 20
"""Glances between two looks at which models are installed."""
PICTURE_REST: Final = 0.05
"""Seconds after a picture in which no other is taken: 15 a second of a camera's 30."""
JPEG_QUALITY: Final = 80
LARGEST_BODY: Final = 64 << 10
LATEST_EVENTS: Final = 100
PATIENCE: Final = 10.0
"""Seconds without a sign of life after which a browser is given up."""
SEND_BUFFER: Final = 32 << 10
"""Bytes that the system may hold back for a slow viewer, who would otherwise watch the past."""
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; "
        "form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}

Wish: TypeAlias = Mapping[str, object]
Order: TypeAlias = Callable[[Car, Wish], Awaitable[None] | None]


@asynccontextmanager
async def console(car: Car, settings: Console, trackside: Trackside | None = None) -> AsyncIterator[str]:
    """Serve the console of a running car until the context ends; the value is its address.

    Raises OSError, in one sentence, when there is no listening on the address of the settings.
    """
    desk = _Desk(car, trackside)
    runner = web.AppRunner(desk.app(), access_log=None, shutdown_timeout=1.0, handler_cancellation=True)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, settings.host, settings.port).start()
        except OSError as error:
            raise OSError(_obstacle(settings, error)) from error
        port = int(runner.addresses[0][1])
        desk.admit(settings.host, port)
        yield f"http://{_bracketed(settings.host)}:{port}/"
    finally:
        await desk.close()
        await runner.cleanup()


def _obstacle(settings: Console, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {settings.port} is already in use: end the program that has it, or choose another port."
    if error.errno == errno.EACCES:
        return f"Port {settings.port} is not permitted to this user: choose one above 1023."
    return f"The console cannot listen on {settings.host}, port {settings.port}: {error.strerror or error}."


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class _Desk:
    """The routes, and what all the pages that are open share."""

    def __init__(self, car: Car, trackside: Trackside | None) -> None:
        self._car, self._trackside = car, trackside
        self._hosts: frozenset[str] = frozenset()
        self._models: list[dict[str, str]] = []
        self._beat = self._ticks = 0
        self._beat_due = self._picture_due = 0.0
        self._glances = Shared(self._glance)
        self._pictures = Shared(self._picture)

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard], client_max_size=LARGEST_BODY)
        app.on_response_prepare.append(_dress)
        app.router.add_get("/", _page)
        app.router.add_static("/static/", FRONTEND)
        app.router.add_get("/camera.mjpeg", self._camera, allow_head=False)
        app.router.add_get("/ws", self._socket, allow_head=False)
        app.router.add_get("/api/track", self._track)
        app.router.add_get("/api/state", self._state)
        app.router.add_get("/api/models", self._installed)
        for verb, order in ORDERS.items():
            app.router.add_post(f"/api/{verb}", self._obeying(order))
        return app

    def admit(self, host: str, port: int) -> None:
        """Answer to these names from now on, and to none before."""
        names = {"localhost", "127.0.0.1", "[::1]", _bracketed(host.lower())}
        self._hosts = frozenset({f"{name}:{port}" for name in names} | (names if port == 80 else set()))

    async def close(self) -> None:
        """Let every open page go."""
        await self._glances.close()
        await self._pictures.close()

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Against pages of other sites: those that had our name resolve to this car, and those that send orders."""
        host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
        if host.lower() not in self._hosts:
            return _told(421, "This address is not the car's: open the one that it printed when it started.")
        changes = request.method not in ("GET", "HEAD") or "Upgrade" in request.headers
        if changes and origin is not None and origin.lower() != f"http://{host.lower()}":
            return _told(403, "Orders are taken from the car's own page only.")
        try:
            return await handler(request)
        except web.HTTPError as error:
            error.text, error.content_type = json.dumps({"error": f"{error.reason}."}), "application/json"
            raise

    # What is asked ----------------------------------------------------------------------------------------------

    async def _track(self, request: web.Request) -> web.Response:
        return web.json_response(_drawn(self._trackside.outline()) if self._trackside else None)

    async def _state(self, request: web.Request) -> web.Response:
        return web.Response(text=self._car.snapshot().to_json(), content_type="application/json")

    async def _installed(self, request: web.Request) -> web.Response:
        return web.json_response(await self._list_models())

    def _obeying(self, order: Order) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def obey(request: web.Request) -> web.Response:
            try:
                doing = order(self._car, _wish(await request.read()))
                if doing is not None:
                    # Who closes the page while a model is loading has chosen it all the same.
                    await asyncio.shield(doing)
            except Malformed as error:
                return _told(400, str(error))
            except (Refusal, ModelMissing, PackageError) as error:
                return _told(409, str(error))
            return web.json_response({})

        return obey

    # What is pushed ---------------------------------------------------------------------------------------------

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(timeout=1.0, heartbeat=PATIENCE, max_msg_size=1024, compress=False)
        await ws.prepare(request)
        pushing = asyncio.create_task(self._push(ws, _Line(request)))
        try:
            async for _ in ws:
                pass  # Nothing is asked here, but who does not listen does not hear the farewell.
        finally:
            pushing.cancel()
            await asyncio.wait([pushing])
        return ws

    async def _push(self, ws: web.WebSocketResponse, line: _Line) -> None:
        told: Event | None = None
        models: list[dict[str, str]] | None = None
        try:
            async for glance in self._glances:
                if not line.free():
                    continue
                message = dict(glance)
                if events := self._events_since(told):
                    told, message["events"] = events[-1], [asdict(event) for event in events]
                if models is not self._models:
                    models = message["models"] = self._models
                await ws.send_str(json.dumps(message))
        except ConnectionResetError:
            pass
        finally:
            await ws.close(code=1001)

    async def _glance(self) -> dict[str, object]:
        """What every page is told at one beat."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._beat_due - loop.time())
        self._beat_due = max(self._beat_due + BEAT, loop.time() + BEAT / 2)
        if self._beat % BEATS_A_LOOK == 0:
            models = await self._list_models()
            self._models = self._models if models == self._models else models
        glance: dict[str, object] = {"t": loop.time()}
        if self._trackside is not None:
            glance["standing"] = _figures(self._trackside.standing())
        if self._beat % 2 == 0:
            glance |= {"state": json.loads(self._car.snapshot().to_json()), "latencies": self._latencies()}
        self._beat += 1
        return glance

    def _latencies(self) -> list[float]:
        """Milliseconds from picture to pulse, of each wish acted on since the last time this was asked."""
        mailbox = self._car.mailbox
        report = mailbox.report()
        if report is None:
            return []
        a_second_ago = report.ticks - 50
        _, latencies = mailbox.samples(report.ticks, max(self._ticks, a_second_ago))
        self._ticks = report.ticks
        return [round(1000 * latency, 2) for latency in latencies]

    def _events_since(self, last: Event | None) -> list[Event]:
        news = itertools.takewhile(lambda event: event is not last, reversed(self._car.events))
        return list(itertools.islice(news, LATEST_EVENTS))[::-1]

    async def _list_models(self) -> list[dict[str, str]]:
        return [{"name": name} for name in await asyncio.to_thread(self._car.store.names)]

    async def _camera(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "multipart/x-mixed-replace; boundary=frame"})
        await response.prepare(request)
        line = _Line(request)
        with contextlib.suppress(ConnectionResetError):
            await response.write(b"--frame\r\n")
            async for jpeg in self._pictures:
                if line.free():
                    # A browser shows a picture when it has seen the boundary after it.
                    head = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
                    await response.write(head + jpeg + b"\r\n--frame\r\n")
        return response

    async def _picture(self) -> bytes:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._picture_due - loop.time())
        frame = await self._car.frames[0].next()
        self._picture_due = loop.time() + PICTURE_REST
        return await asyncio.to_thread(_jpeg, frame.image)


class _Line:
    """The connection to one browser, kept from holding back what would be old when it arrives."""

    def __init__(self, request: web.Request) -> None:
        if request.transport is None:
            raise ConnectionResetError("The browser has gone.")
        self._transport = request.transport
        self._loop = asyncio.get_running_loop()
        self._moved = self._loop.time()
        plug = self._transport.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)

    def free(self) -> bool:
        """Whether all that was sent is on its way. Raises ConnectionResetError when patience is over."""
        if not self._transport.get_write_buffer_size():
            self._moved = self._loop.time()
            return True
        if self._loop.time() - self._moved > PATIENCE:
            raise ConnectionResetError("The browser does not take what it is sent.")
        return False


class Malformed(ValueError):
    """The body of a request is not what its route takes; the message says what is."""


def _wish(body: bytes) -> Wish:
    try:
        wish = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise Malformed("The body is no valid JSON.") from error
    if not isinstance(wish, dict):
        raise Malformed("The body must be a JSON object.")
    return wish


def _part(wish: Wish) -> float:
    percent = wish.get("percent")
    if isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 <= percent <= 100:
        raise Malformed('The body must be {"percent": a number from 0 to 100}.')
    return percent / 100


def _name(wish: Wish) -> str:
    name = wish.get("name")
    if not isinstance(name, str):
        raise Malformed('The body must be {"name": the name of an installed model}.')
    return name


def _mode(wish: Wish) -> DriveMode:
    modes = {mode.value: mode for mode in DriveMode}
    mode = wish.get("mode")
    if not isinstance(mode, str) or mode not in modes:
        raise Malformed(f'The body must be {{"mode": one of {", ".join(modes)}}}.')
    return modes[mode]


ORDERS: Final[Mapping[str, Order]] = {
    "start": lambda car, wish: car.start(),
    "stop": lambda car, wish: car.stop(),
    "max_speed": lambda car, wish: car.limit_speed(_part(wish)),
    "mode": lambda car, wish: car.select(_mode(wish)),
    "model": lambda car, wish: car.load(_name(wish)),
}


def _told(status: int, sentence: str) -> web.Response:
    return web.json_response({"error": sentence}, status=status)


async def _dress(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


async def _page(request: web.Request) -> web.FileResponse:
    return web.FileResponse(FRONTEND / "index.html")


def _drawn(outline: Outline) -> dict[str, object]:
    lines = {"centre": outline.centre, "inner": outline.inner, "outer": outline.outer}
    rounded = {name: [(round(x, 3), round(y, 3)) for x, y in line] for name, line in lines.items()}
    return {"name": outline.name, "title": outline.title, **rounded}


def _figures(standing: Standing) -> dict[str, object]:
    return {
        "position": [round(metres, 4) for metres in standing.position],
        "heading": round(standing.heading, 4),
        "speed": round(standing.speed, 3),
        "progress": round(standing.progress, 2),
        "lap_time": round(standing.lap_time, 3),
        "lap_count": standing.lap_count,
        "laps": [round(lap, 3) for lap in standing.laps],
        "off_track": standing.off_track,
    }


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return jpeg.tobytes()
