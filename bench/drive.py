"""How the daemon keeps time: picture to pulse with a viewer watching, the governor's ticks idle and under load.

    python -m bench.drive [--model PACKAGE] [--seconds N]

Starts the simulated car in a process of its own and watches its console as a browser would. The ticks are compared
with a bare loop of this program that waits with the same call, in the same run and under the same load.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

PERIOD = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a package (default: the sample)")
    parser.add_argument("--seconds", type=float, default=40.0, help="of each watch; the daemon's own figures span 35")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as state:
        car = [sys.executable, "-m", "sim_stub", "--port", "0", "--state", state]
        install = ["--model", options.model] if options.model else []
        with _running([*car, *install]):  # installs the model, so that the start below is an ordinary one
            pass
        with _running(car) as (process, address, start_up):
            figures: dict[str, Any] = {"start_to_first_frame_s": round(start_up, 2)}
            for name, hogs in (("idle", 0), ("load", os.cpu_count() or 1)):
                with _busy(hogs):
                    figures[name] = asyncio.run(_watch(address, options.seconds))
            figures["memory_mb"] = {
                str(pid): round(_resident(pid), 1) for pid in (process.pid, *_children(process.pid))
            }
    print(json.dumps(figures))


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[tuple[subprocess.Popen[str], str, float]]:
    """The car: its process, its console's address, and the seconds from its start to the first picture."""
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[-1]
            asyncio.run(_until(address, "frames"))
            start_up = time.monotonic() - began
            asyncio.run(_until(address, "engaged"))
            yield process, address, start_up
        finally:
            process.terminate()


async def _until(address: str, fact: str) -> None:
    """Wait until the car's state has that fact."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(60):
        while not (await _state(session, address))[fact]:
            await asyncio.sleep(0.01)


async def _state(session: aiohttp.ClientSession, address: str) -> dict[str, Any]:
    async with session.get(f"{address}api/state") as answer:
        state: dict[str, Any] = await answer.json()
        return state


async def _watch(address: str, seconds: float) -> dict[str, Any]:
    """Be a browser for that long; then read the daemon's own figures and those of a bare loop."""
    async with aiohttp.ClientSession(headers={"Origin": address.rstrip("/")}) as session:
        viewers = [asyncio.create_task(_stream(session, address)), asyncio.create_task(_socket(session, address))]
        late = await asyncio.to_thread(_bare_loop, seconds)
        state = await _state(session, address)
        for viewer in viewers:
            viewer.cancel()
        await asyncio.gather(*viewers, return_exceptions=True)
    ours = state["latencies"]
    bare = {name: round(1000 * float(np.quantile(late, q)), 3) for name, q in (("p50", 0.5), ("p99", 0.99))}
    return {
        "frame_to_pulse_ms": ours["frame_to_pulse_ms"],
        "inference_ms": ours["inference_ms"],
        "inference_hz": round(state["rates"]["inference"], 2),
        "realtime": state["realtime"],
        "tick_late_ms": ours["tick_late_ms"],
        "bare_loop_late_ms": bare,
        "tick_late_p99_ratio": round(ours["tick_late_ms"]["p99"] / max(bare["p99"], 1e-9), 3),
    }


async def _stream(session: aiohttp.ClientSession, address: str) -> None:
    async with session.get(f"{address}camera.mjpeg") as answer:
        async for _ in answer.content.iter_any():
            pass


async def _socket(session: aiohttp.ClientSession, address: str) -> None:
    async with session.ws_connect(f"{address}ws") as socket:
        async for _ in socket:
            pass


def _bare_loop(seconds: float) -> list[float]:
    """Lateness (s) of an ordinary process's loop of the same period."""
    late, due = [], time.monotonic()
    end = due + seconds
    while due < end:
        select.select([], [], [], max(0.0, due - time.monotonic()))
        late.append(max(0.0, time.monotonic() - due))
        due = max(due + PERIOD, time.monotonic())
    return late


@contextlib.contextmanager
def _busy(count: int) -> Iterator[None]:
    """So many other programs that never rest."""
    hogs = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(count)]
    for hog in hogs:
        hog.start()
    try:
        yield
    finally:
        for hog in hogs:
            hog.terminate()
            hog.join()


def _spin() -> None:
    while True:
        sum(range(100_000))


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _resident(pid: int) -> float:
    """Megabytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


if __name__ == "__main__":
    main()
