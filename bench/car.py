"""A simulated car in a process of its own, and somebody who has unlocked its console."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

PASSWORD = "nobody else measures here"


@contextlib.contextmanager
def running(state: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str, float]]:
    """The car, driving: its process, its console's address, and the seconds from its start to the first picture."""
    secret = state / "known"
    secret.write_text(PASSWORD)
    command = [sys.executable, "-m", "sim_stub", "--port", "0", "--state", str(state), "--password-file", str(secret)]
    began = time.monotonic()
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[-1]
            asyncio.run(_until(address, "frames"))
            start_up = time.monotonic() - began
            asyncio.run(_until(address, "engaged"))
            yield process, address, start_up
        finally:
            process.terminate()


@asynccontextmanager
async def visitor(address: str, name: str = "Bench") -> AsyncIterator[aiohttp.ClientSession]:
    """Logged in, with the session's token on every request."""
    jar, connector = aiohttp.CookieJar(unsafe=True), aiohttp.TCPConnector(ssl=False, limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(address, cookie_jar=jar, connector=connector, timeout=timeout) as session:
        async with session.post("/api/v1/login", json={"password": PASSWORD, "name": name}) as answer:
            session.headers["X-CSRF-Token"] = (await answer.json())["csrf"]
        yield session


async def state_of(session: aiohttp.ClientSession) -> dict[str, Any]:
    """The car's snapshot."""
    async with session.get("/api/v1/state") as answer:
        state: dict[str, Any] = await answer.json()
        return state


async def _until(address: str, fact: str) -> None:
    async with visitor(address) as session, asyncio.timeout(60):
        while not (await state_of(session))[fact]:
            await asyncio.sleep(0.01)


async def watch_camera(session: aiohttp.ClientSession) -> None:
    """Take the picture stream as it comes, for ever."""
    async with session.get("/camera.mjpeg") as answer:
        async for _ in answer.content.iter_any():
            pass


async def watch_state(session: aiohttp.ClientSession) -> None:
    """Listen to the page's socket, for ever."""
    async with session.ws_connect("/ws") as socket:
        async for _ in socket:
            pass


def children(pid: int) -> list[int]:
    """Of that process: the governor, and nothing else while the car drives."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
