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
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.car import children, running, state_of, visitor, watch_camera, watch_state

PERIOD = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a package (default: the sample)")
    parser.add_argument("--seconds", type=float, default=40.0, help="of each watch; the daemon's own figures span 35")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as state:
        install = ("--model", options.model) if options.model else ()
        with running(Path(state), *install):  # installs the model, so that the start below is an ordinary one
            pass
        with running(Path(state)) as (process, address, start_up):
            figures: dict[str, Any] = {"start_to_first_frame_s": round(start_up, 2)}
            for name, hogs in (("idle", 0), ("load", os.cpu_count() or 1)):
                with _busy(hogs):
                    figures[name] = asyncio.run(_watch(address, options.seconds))
            figures["memory_mb"] = {str(pid): round(_resident(pid), 1) for pid in (process.pid, *children(process.pid))}
    print(json.dumps(figures))


async def _watch(address: str, seconds: float) -> dict[str, Any]:
    """Be a browser for that long; then read the daemon's own figures and those of a bare loop."""
    async with visitor(address) as session:
        viewers = [asyncio.create_task(watch_camera(session)), asyncio.create_task(watch_state(session))]
        late = await asyncio.to_thread(_bare_loop, seconds)
        state = await state_of(session)
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


def _resident(pid: int) -> float:
    """Megabytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


if __name__ == "__main__":
    main()
