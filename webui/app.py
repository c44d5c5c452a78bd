"""The device console: one car's state and verbs over HTTPS and WebSocket, for a browser beside the track."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import re
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

import ifaddr
import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from vehicle.car import Car
from vehicle.gate import DriveMode
from vehicle.settings import Console
from webui import certificate, mdns, stock_api
from webui.api import ROUTES
from webui.auth import ATTEMPTS_FILE, Attempts, Password, Session, Sessions, TooManyAttempts
from webui.desk import COOKIE, STATUS, STOCK_COOKIE, Address, Desk, Locked, Malformed, Route, Visit, sentence
from webui.link import Link
from webui.logs import DaemonLog
from webui.openapi import described
from webui.people import enter, leave
from webui.stock_api import StockApi, Tokens
from webui.trackside import Trackside
from webui.wheel import Wheel

log = logging.getLogger(__name__)

FRONTEND: Final = Path(__file__).parent / "frontend" / "dist"
LARGEST_BODY: Final = 64 << 10
CABLE: Final = ("deepracer.aws", "hotlap.local")
"""The car's names at the other end of its USB cable."""
ANYWHERE: Final = ("0.0.0.0", "::", "")
LOOK_ROUND: Final = 10.0
"""Seconds between two looks at the addresses of this machine."""
SWEEP: Final = 1.0
"""Seconds between two looks at sessions that have come to their end."""
HEADERS: Final = {
    "Server": "hotlap",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; "
        "form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
STILL_CLOSED: Final = frozenset(
    {"/api/v1/session", "/api/v1/password", "/api/password", "/api/v1/logout", "/api/v1/stop"}
)
"""What there is while the password must be changed first."""

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


class MustChange(Locked):
    """The password is one that its owner has not chosen."""


@asynccontextmanager
async def console(
    car: Car,
    settings: Console,
    password: Password,
    trackside: Trackside | None = None,
    room: Callable[[], int] | None = None,
) -> AsyncIterator[str]:
    """Serve the console of a running car until the context ends; the value is its address.

    `room` says how many bytes are free for models, and asks the disk unless told otherwise.

    Raises OSError, in one sentence, when there is no listening on an address of the settings.
    """
    root = car.store.root
    names = mdns.names(root, socket.gethostname())
    addresses = addresses_of(settings.host)
    papers = await asyncio.to_thread(certificate.ensure, root, (*names, *CABLE), addresses, datetime.now(UTC))
    said = DaemonLog()
    logging.getLogger().addHandler(said)
    room = room or (lambda: shutil.disk_usage(root).free)
    desk = _desk(car, trackside, password, said, settings, room, Address(names, addresses, papers.fingerprint))
    office = Office(desk)
    heard = _Heard(log)
    runner = web.AppRunner(office.app(), access_log=None, logger=heard, shutdown_timeout=1.0, handler_cancellation=True)
    porter = web.AppRunner(_porter(office), access_log=None, logger=heard)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(logging.getLogger().removeHandler, said)
        stack.push_async_callback(porter.cleanup)
        stack.push_async_callback(runner.cleanup)
        stack.push_async_callback(office.close)
        await runner.setup()
        await porter.setup()
        context = certificate.context(papers)
        await _listen(runner, settings.host, settings.port, context)
        port = int(runner.addresses[0][1])
        office.admit(settings.host, port)
        if settings.redirect:
            await _listen(porter, settings.host, settings.redirect)

        def announce(address: Address) -> AbstractAsyncContextManager[None]:
            if not _is_open(settings.host):
                return contextlib.nullcontext()
            return mdns.announced(address.names, address.addresses, port, address.fingerprint)

        for chore in (office.sweep(), stay_found(desk, lambda: addresses_of(settings.host), announce, context)):
            stack.push_async_callback(_end, asyncio.create_task(chore))
        name = names[0] if settings.host in ANYWHERE else _bracketed(settings.host)
        yield f"https://{name}:{port}/"


def _desk(
    car: Car,
    trackside: Trackside | None,
    password: Password,
    said: DaemonLog,
    settings: Console,
    room: Callable[[], int],
    address: Address,
) -> Desk:
    clock = asyncio.get_running_loop().time

    def let_go(reason: str) -> None:
        if car.engaged and car.mode is not DriveMode.AUTONOMOUS:
            car.stop(reason)

    return Desk(
        car=car,
        trackside=trackside,
        password=password,
        sessions=Sessions(clock),
        attempts=Attempts(car.store.root / ATTEMPTS_FILE, clock),
        wheel=Wheel(clock, let_go),
        log=said,
        largest_upload=settings.upload_mb << 20,
        room=room,
        address=address,
        uploading=set(),
    )


async def _listen(runner: web.AppRunner, host: str, port: int, context: ssl.SSLContext | None = None) -> None:
    try:
        await web.TCPSite(runner, host, port, ssl_context=context).start()
    except OSError as error:
        raise OSError(_obstacle(host, port, error)) from error


def _obstacle(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} is already in use: end the program that has it, or choose another port."
    if error.errno == errno.EACCES:
        return f"Port {port} is not permitted to this user: choose one above 1023."
    return f"The console cannot listen on {host}, port {port}: {error.strerror or error}."


async def stay_found(
    desk: Desk,
    find: Callable[[], tuple[str, ...]],
    announce: Callable[[Address], AbstractAsyncContextManager[None]],
    context: ssl.SSLContext,
    every: float = LOOK_ROUND,
) -> None:
    """Keep the console announced; after a move to other addresses anew, with a certificate for them in `context`.

    `find` is asked for this machine's addresses again after so many seconds.
    """
    while True:
        address = desk.address
        async with announce(address):
            while (found := find()) == address.addresses:
                await asyncio.sleep(every)
        fingerprint = address.fingerprint
        try:
            root, now = desk.car.store.root, datetime.now(UTC)
            papers = await asyncio.to_thread(certificate.ensure, root, (*address.names, *CABLE), found, now)
            context.load_cert_chain(papers.path)
            fingerprint = papers.fingerprint
        except OSError as error:
            log.warning("The console's certificate does not know the car's new address: %s", error)
        desk.address = Address(address.names, found, fingerprint)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_open(host: str) -> bool:
    """Whether others than this machine can come."""
    return host not in ("localhost", "::1") and not host.startswith("127.")


def addresses_of(host: str) -> tuple[str, ...]:
    """The addresses under which a console that listens on `host` can be found."""
    if host not in ANYWHERE:
        return (host,)
    found = (str(ip.ip if ip.is_IPv4 else ip.ip[0]) for adapter in ifaddr.get_adapters() for ip in adapter.ips)
    return tuple(sorted(address for address in found if not address.startswith(("127.", "::1", "fe80"))))


class _Heard(logging.LoggerAdapter[logging.Logger]):
    """Leaves out what was no HTTP: anybody could fill the log with it, and it may hold a cookie."""

    def log(self, level: int, msg: object, *args: object, **options: Any) -> None:
        if not isinstance(options.get("exc_info"), HttpProcessingError):
            super().log(level, msg, *args, **options)


class Office:
    """Who comes in, and where they are led."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._link = Link(desk)
        self._stock = StockApi(desk, self._link)
        self._tokens = Tokens()
        self._host, self.port = "", 0
        self._hosts: frozenset[str] = frozenset()

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard], client_max_size=LARGEST_BODY)
        app.on_response_prepare.append(_dress)
        for path in ("/", "/home", "/login", "/redirect_login"):
            app.router.add_get(path, self._page)
        app.router.add_static("/static/", FRONTEND)
        app.router.add_post("/login", self._stock_login)
        app.router.add_get("/logout", self._stock_logout, allow_head=False)
        app.router.add_get("/auth", self._stock_auth)
        app.router.add_get("/ws", self._socket, allow_head=False)
        app.router.add_get("/camera.mjpeg", self._camera, allow_head=False)
        app.router.add_get("/api/v1/openapi.json", self._openapi)
        for route in ROUTES:
            app.router.add_route(route.method, route.path, self._own(route))
        for method, path, handler in self._stock.routes():
            for each in ("PUT", "POST") if method == "*" else ("GET",):
                app.router.add_route(each, path, self._old(handler, changes=method == "GET!"))
        return app

    def admit(self, host: str, port: int) -> None:
        """Answer to these names from now on, and to none before."""
        self._host, self.port = host, port
        self._know_addresses()

    def _know_addresses(self) -> None:
        address = self._desk.address
        names = {"localhost", "127.0.0.1", "::1", *CABLE, *address.names, *addresses_of(self._host)}
        names = {_bracketed(name.lower()) for name in names}
        bare = names if self.port == 443 else set()
        self._hosts = frozenset({f"{name}:{self.port}" for name in names} | bare)

    def knows(self, host: str) -> bool:
        """Whether this is a name of ours; an address that came lately is."""
        if host.lower() in self._hosts:
            return True
        self._know_addresses()
        return host.lower() in self._hosts

    async def sweep(self) -> None:
        """End what has come to its end."""
        while True:
            await asyncio.sleep(SWEEP)
            self._desk.sessions.sweep()

    async def close(self) -> None:
        await self._stock.close()
        await self._link.close()

    # At the door ------------------------------------------------------------------------------------------------

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Against pages of other sites, those that had our name resolve to this car included."""
        host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
        if not self.knows(host):
            return _told(421, "This address is not the car's: open the one that it printed when it started.")
        if _changes(request) and not _from_here(request, host, origin):
            return _told(403, "Orders are taken from the car's own page only.")
        try:
            return await handler(request)
        except web.HTTPError as error:
            error.text, error.content_type = json.dumps({"error": f"{error.reason}."}), "application/json"
            raise
        except TooManyAttempts as error:
            response = _told(429, str(error))
            response.headers["Retry-After"] = str(error.wait)
            return response
        except MustChange as error:
            return web.json_response({"error": str(error), "must_change": True}, status=403)
        except Locked as error:
            return _told(error.status, str(error))
        except tuple(STATUS) as error:
            return _told(_status(error), sentence(error))

    def _session(self, request: web.Request) -> Session | None:
        cookies = (request.cookies.get(name) for name in (COOKIE, STOCK_COOKIE))
        found = (self._desk.sessions.find(cookie) for cookie in cookies if cookie)
        return next((session for session in found if session is not None), None)

    def _let_in(self, request: web.Request, token: bool) -> Session:
        """The session of a request that needs one, and a token against forgery if it changes things. Raises Locked."""
        session = self._session(request)
        if session is None:
            raise Locked("Unlock the car first: its password is needed.")
        if token:
            own, old = request.headers.get("X-CSRF-Token", ""), request.headers.get("X-CSRFToken", "")
            if not session.vouches_for(own) and not self._tokens.valid(old):
                raise Locked("The request lacks its token; reload the page.", 403)
        if self._desk.password.must_change and request.path not in STILL_CLOSED:
            raise MustChange("Choose a password of your own first.", 403)
        return session

    # Our own routes ---------------------------------------------------------------------------------------------

    def _own(self, route: Route) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            session = self._session(request) if route.open else self._let_in(request, request.method != "GET")
            query = _checked(route.query, dict(request.query)) if route.query else None
            body = _read(await request.read(), route.body) if route.body else None
            told = await route.handler(self._desk, Visit(request, session, body, query))
            if isinstance(told, web.StreamResponse):
                return told
            return web.Response(body=msgspec.json.encode(told), status=route.status, content_type="application/json")

        return answer

    async def _openapi(self, request: web.Request) -> web.Response:
        self._let_in(request, False)
        return web.json_response(described(ROUTES))

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        return await self._link.socket(request, self._let_in(request, False))

    async def _camera(self, request: web.Request) -> web.StreamResponse:
        self._let_in(request, False)
        place = request.query.get("camera", "0")
        if place not in map(str, range(len(self._desk.car.frames))):
            raise Malformed("This car has no such camera.")
        return await self._link.camera(request, int(place))

    async def _page(self, request: web.Request) -> web.Response:
        page = await asyncio.to_thread((FRONTEND / "index.html").read_text, "utf-8")
        # Where old clients look for it; the page itself asks for its session's.
        page = page.replace('name="csrf-token" content=""', f'name="csrf-token" content="{self._tokens.new()}"')
        return web.Response(text=page, content_type="text/html")

    # The stock car's routes -------------------------------------------------------------------------------------

    def _old(self, handler: Callable[[Visit], Awaitable[object]], changes: bool) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            if changes and not _from_here(request, request.headers.get("Host", ""), request.headers.get("Origin")):
                raise Locked("Orders are taken from the car's own page only.", 403)
            session = self._let_in(request, request.method != "GET")
            try:
                told = await handler(Visit(request, session, None, None))
            except stock_api.REFUSALS as error:
                told = stock_api.failed(error)
            return told if isinstance(told, web.StreamResponse) else web.json_response(told)

        return answer

    async def _stock_login(self, request: web.Request) -> web.Response:
        if not self._tokens.valid(request.headers.get("X-CSRFToken", "")):
            raise Locked("The request lacks the token of the login page; read that page first.", 403)
        try:
            form = await request.post()
        except (ValueError, LookupError, AssertionError, RuntimeError, HttpProcessingError) as error:
            raise Malformed("This is no form that can be read.") from error
        try:
            cookie, _ = await enter(self._desk, request.remote or "", str(form.get("password", "")), "An old client")
        except Locked:
            return web.Response(text="failure", status=401)
        leave(self._desk, request)
        return stock_api.signed_in({"redirect": "/home"}, cookie)

    async def _stock_logout(self, request: web.Request) -> web.Response:
        if _from_here(request, request.headers.get("Host", ""), request.headers.get("Origin")):
            leave(self._desk, request)
        raise web.HTTPFound("/login")

    async def _stock_auth(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if self._session(request) else 401)


def _porter(office: Office) -> web.Application:
    """Whoever comes without encryption is led to the door; orders are not."""

    async def lead(request: web.Request) -> web.Response:
        if request.method not in ("GET", "HEAD") or request.path.startswith(("/api/", "/ws", "/camera", "/route")):
            return _told(403, "This is only served over HTTPS.")
        host = re.sub(r":\d*$", "", request.headers.get("Host", ""))
        if not office.knows(f"{host}:{office.port}"):
            return _told(421, "This address is not the car's: open the one that it printed when it started.")
        raise web.HTTPPermanentRedirect(f"https://{host}:{office.port}{request.rel_url.raw_path_qs}")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", lead)
    app.on_response_prepare.append(_dress)
    return app


def _changes(request: web.Request) -> bool:
    return request.method not in ("GET", "HEAD") or "Upgrade" in request.headers


def _from_here(request: web.Request, host: str, origin: str | None) -> bool:
    """Not sent by the page of another site, as far as the browser says; programs that are no browsers say nothing."""
    if origin is not None and origin.lower() != f"https://{host.lower()}":
        return False
    return request.headers.get("Sec-Fetch-Site", "none") in ("same-origin", "none")


def _read(body: bytes, kind: type[msgspec.Struct]) -> object:
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Malformed(_sentence("The body", error, kind)) from error


def _checked(kind: type[msgspec.Struct], values: dict[str, str]) -> object:
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.MsgspecError as error:
        raise Malformed(_sentence("The query", error, kind)) from error


def _sentence(what: str, error: Exception, kind: type[msgspec.Struct]) -> str:
    keys = ", ".join(field.name for field in msgspec.structs.fields(kind)) or "nothing"
    return f"{what} is not what is taken here ({keys}): {str(error).rstrip('.')}."


def _status(error: Exception) -> int:
    return next(status for kind, status in STATUS.items() if isinstance(error, kind))


def _told(status: int, sentence: str) -> web.Response:
    return web.json_response({"error": sentence}, status=status)


async def _dress(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
