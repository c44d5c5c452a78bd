"""What the console's tests do again and again: ask, speak without a client, look at a page and at the disk."""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse
from yarl import URL

from vehicle.car import Car
from webui.api import Address, Desk
from webui.app import Office
from webui.auth import Attempts, Password, Sessions
from webui.logs import DaemonLog
from webui.wheel import Wheel

PLACES = {
    "name": "sample",
    "wire": "steering",
    "which": "daemon",
    "type": "angle",
    "folder": "sample",
    "lines": "5",
}
"""What stands for each `{parameter}`."""


@dataclass(frozen=True)
class Way:
    """One method of one path."""

    method: str
    template: str

    @property
    def key(self) -> tuple[str, str]:
        return self.method, self.template

    @property
    def path(self) -> str:
        return re.sub(r"{(\w+)}", lambda found: PLACES[found[1]], self.template)

    @property
    def changes(self) -> bool:
        return self.method != "GET"


def empty_desk(car: Car, password: Password, attempts: Path) -> Desk:
    """One at which nobody sits: to ask for the routes."""

    def clock() -> float:
        return 0.0

    return Desk(
        car=car,
        trackside=None,
        password=password,
        sessions=Sessions(clock),
        attempts=Attempts(attempts, clock),
        wheel=Wheel(clock, lambda reason: None),
        log=DaemonLog(),
        largest_upload=0,
        room=lambda: 0,
        address=Address((), (), ""),
        uploading=set(),
    )


def every_way(desk: Desk) -> list[Way]:
    """Every way in, from the router's own table."""
    routes = [(route.method, route.resource) for route in Office(desk).app().router.routes()]
    found = [Way(method, place.canonical) for method, place in routes if place is not None and method != "HEAD"]
    assert len(found) > 80
    return found


async def ask(visitor: ClientSession, method: str, path: str | URL, **options: Any) -> tuple[int, Any]:
    """The status, and what came with it: JSON where it is some."""
    async with visitor.request(method, path, **options) as answer:
        is_json = answer.content_type == "application/json"
        return answer.status, await (answer.json() if is_json else answer.text())


async def refused(visitor: ClientSession, status: int, method: str, path: str | URL, **options: Any) -> str:
    """The one sentence with which this is refused."""
    found, told = await ask(visitor, method, path, **options)
    assert (found, list(told)) == (status, ["error"]), told
    assert told["error"].endswith("."), told
    return str(told["error"])


async def say(address: str, request: bytes, tls: bool = True) -> bytes:
    """What is answered to these very bytes, at least to the end of the head."""
    url = URL(address)
    assert url.host is not None
    assert url.port is not None
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(url.host, url.port, ssl=context if tls else None)
    try:
        writer.write(request)
        async with asyncio.timeout(10):
            said = b""
            while b"\r\n\r\n" not in said and (more := await reader.read(1 << 16)):
                said += more
        return said
    finally:
        writer.transport.abort()


def tree(root: Path) -> dict[str, str]:
    """Every file below, by what it holds, and every link, by where it leads."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(root))] = f"-> {path.readlink()}"
        elif path.is_file():
            found[str(path.relative_to(root))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def models_of(state: Path) -> dict[str, str]:
    """The tree of all that is installed. Nothing may be left on its way in."""
    assert not list((state / "incoming").iterdir())
    return {path: what for path, what in tree(state).items() if path.split("/")[0] in ("models", "packages", "active")}


async def news(page: ClientWebSocketResponse, key: str, seconds: float = 5.0) -> Any:
    """The next that a page is told about this."""
    async with asyncio.timeout(seconds):
        while key not in (message := await page.receive_json()):
            pass
    return message[key]


async def closing(page: ClientWebSocketResponse, seconds: float = 2.0) -> int | None:
    """Listen to the end: the code with which the server closed."""
    async with asyncio.timeout(seconds):
        async for _ in page:
            pass
    return page.close_code
