"""What the console's tests do again and again: ask, speak without a client, look at a page and at the disk."""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from aiohttp import ClientSession, ClientTimeout, ClientWebSocketResponse, CookieJar, TCPConnector
from numpy.typing import NDArray
from yarl import URL

from calibration.calibration import DEFAULT
from drivers.signals import ActuatorCommand, Frame
from inference.package import ModelPackage
from inference.policy import Policy
from sim_stub import track
from sim_stub.rig import SimRig
from sim_stub.wires import Tape
from sim_stub.world import World
from vehicle import daemon
from vehicle.car import Car
from vehicle.governor import in_this_loop
from vehicle.models import ModelStore
from vehicle.settings import Console, Drive, Settings
from webui.app import Office, console
from webui.auth import Attempts, Password, Sessions
from webui.desk import Address, Desk
from webui.logs import DaemonLog
from webui.wheel import Wheel

PASSWORD = "three odd walruses"
Enter: TypeAlias = Callable[..., Awaitable[ClientSession]]
HERE = Console(port=0, upload_mb=1)
REST = ActuatorCommand(1_450_000, 1_446_000)
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


def stranger(address: str, **options: object) -> ClientSession:
    """Somebody who has not unlocked anything, and takes any certificate."""
    jar = CookieJar(unsafe=True)
    connector = TCPConnector(ssl=False, limit=0)
    timeout = ClientTimeout(total=20)
    return ClientSession(address, cookie_jar=jar, connector=connector, timeout=timeout, **options)  # type: ignore[arg-type]


async def unlock(visitor: ClientSession, name: str = "Anna", password: str = PASSWORD) -> None:
    """Log in; every later request carries the session's token."""
    async with visitor.post("/api/v1/login", json={"password": password, "name": name}) as answer:
        assert answer.status == 200, await answer.text()
        visitor.headers["X-CSRF-Token"] = (await answer.json())["csrf"]


# A car, its console, a track ---------------------------------------------------------------------------------------


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def new_car(state: Path, open_policy: Callable[[ModelPackage], Policy] | None = None) -> Car:
    return Car(Settings(drive=Drive(max_speed=1.0)), ModelStore(state), DEFAULT, open_policy=open_policy)


@asynccontextmanager
async def driving(state: Path, wires: Path) -> AsyncIterator[tuple[Car, SimRig]]:
    """The simulated car on its track, under the daemon, ready to start."""
    car = new_car(state)
    world = World(track.load("reinvent_base"), Tape(wires), asyncio.get_running_loop().time())
    rig = SimRig(world, wires)
    loops = asyncio.create_task(daemon.run(rig.rig, car, in_this_loop))
    try:
        await car.load("sample")
        await until(lambda: car.observations.value and car.mailbox.report())
        yield car, rig
    finally:
        loops.cancel()
        await asyncio.wait([loops])
        car.close()


@asynccontextmanager
async def track_day(state: Path, wires: Path, password: Password) -> AsyncIterator[tuple[Car, SimRig, str]]:
    """A simulated car on its track, its console open."""
    async with driving(state, wires) as (car, rig), console(car, HERE, password, rig) as address:
        yield car, rig, address


def pulses(rig: SimRig) -> ActuatorCommand:
    latest = rig.tape.latest()
    assert latest is not None
    return latest.command


def picture(grey: int = 128, height: int = 120, width: int = 160) -> NDArray[np.uint8]:
    return np.full((height, width, 3), grey, np.uint8)


@asynccontextmanager
async def filming(car: Car, make: Callable[[int], NDArray[np.uint8]], rate: float = 100.0) -> AsyncIterator[list[int]]:
    """A camera in the test's hand; the value counts its pictures."""
    count = [0]

    async def film() -> None:
        while True:
            count[0] += 1
            car.saw(0, Frame(asyncio.get_running_loop().time(), make(count[0])))
            await asyncio.sleep(1 / rate)

    task = asyncio.create_task(film())
    try:
        yield count
    finally:
        task.cancel()
