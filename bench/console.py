"""What the console costs: the governor's ticks and the way from picture to pulse under a crowd, and the idle console.

    python -m bench.console [--seconds N] [--viewers N]

Prints one JSON object. The crowd: eight viewers of the camera, an upload of 200 MB after another, a page that is loaded
anew again and again; all on this machine, as is the simulator, so that everything shares its processors. `alone` is the
same car in the same run with one page that only watches its state. Costs are parts of one core: the daemon's processor
time with nobody there, with a page, and with page and camera, beside that with no console open at all.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import aiohttp

from bench.car import running, state_of, visitor, watch_camera, watch_state

UPLOAD = 200 << 20
CHUNK = 1 << 18


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=40.0, help="of each watch; the daemon's own figures span 35")
    parser.add_argument("--viewers", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as (process, address, _):
        figures = asyncio.run(_measure(process.pid, address, options.seconds, options.viewers))
    print(json.dumps(figures))


async def _measure(pid: int, address: str, seconds: float, viewers: int) -> dict[str, Any]:
    async with visitor(address) as session:
        first = await _first_load(session)
        nobody = await _cost(pid, seconds / 4)
        async with _all([watch_state(session)]):
            page = await _cost(pid, seconds / 4)
            async with _all([watch_camera(session)]):
                viewer = await _cost(pid, seconds / 4)
        alone = await _timing(session, seconds)
        loads: list[float] = []
        sent = [0]
        crowd = [watch_camera(session) for _ in range(viewers)]
        async with _all([*crowd, _upload(session, sent), _reload(session, loads)]):
            crowded = await _timing(session, seconds)
    return {
        "viewers": viewers,
        "alone": alone,
        "crowd": crowded,
        "tick_late_p99_ratio": round(crowded["tick_late_ms"]["p99"] / max(alone["tick_late_ms"]["p99"], 1e-9), 2),
        "first_load_s": round(first, 3),
        "loads_in_the_crowd": len(loads),
        "uploaded_in_the_crowd_mb": sent[0] >> 20,
        "cost_of_a_core": {
            "nobody": round(nobody, 3),
            "page": round(page - nobody, 3),
            "page_and_camera": round(viewer - nobody, 3),
        },
    }


@contextlib.asynccontextmanager
async def _all(doings: list[Awaitable[None]]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(doing) for doing in doings]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _timing(session: aiohttp.ClientSession, seconds: float) -> dict[str, Any]:
    """As the page is told it: each pulse's way from its picture, and the daemon's figures at the end."""
    latencies: list[float] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds), session.ws_connect("/ws") as socket:
            async for message in socket:
                latencies += message.json().get("latencies", [])
    state = await state_of(session)
    figures = {name: state["latencies"][name] for name in ("frame_to_pulse_ms", "tick_late_ms")}
    longest = {"longest_frame_to_pulse_ms": max(latencies), "pulses": len(latencies)}
    return figures | longest | {"realtime": state["realtime"], "engaged": state["engaged"]}


async def _cost(pid: int, seconds: float) -> float:
    before, began = _spent(pid), time.monotonic()
    await asyncio.sleep(seconds)
    return (_spent(pid) - before) / (time.monotonic() - began)


def _spent(pid: int) -> float:
    """Seconds of processor time, of the daemon alone."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _first_load(session: aiohttp.ClientSession) -> float:
    """Seconds until all that the page needs at first has come."""
    began = time.monotonic()
    for path in ("/", "/static/style.css", "/static/app.js", "/api/v1/session", "/api/v1/track"):
        async with session.get(path) as answer:
            await answer.read()
    async with session.ws_connect("/ws") as socket:
        await socket.receive()
    return time.monotonic() - began


async def _reload(session: aiohttp.ClientSession, loads: list[float]) -> None:
    while True:
        loads.append(await _first_load(session))


async def _upload(session: aiohttp.ClientSession, sent: list[int]) -> None:
    """As large as the console takes; it looks like an archive, is written to the disk, and is refused in the end."""
    block = b"\x1f\x8b\x08" + os.urandom(CHUNK - 3)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(UPLOAD // CHUNK):
            yield block
            sent[0] += len(block)

    while True:
        async with session.put("/api/v1/models/crowd", data=body()) as answer:
            await answer.read()


if __name__ == "__main__":
    main()
