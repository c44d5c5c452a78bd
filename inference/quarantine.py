"""Let a stranger's package in: unpacked, read and tried once in a process of its own that may die of it.

A model file is read by parsers in C++ that nobody can vouch for. Here they run under limits of time, memory and file
size, so that the worst a package can do is be refused.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import signal
import sys
from pathlib import Path
from typing import Final

import numpy as np

from drivers.signals import Frame, LidarScan, Observation
from inference.package import MOST_BYTES, ModelPackage, PackageError, read, unpack
from inference.policy import OpenVinoPolicy

PATIENCE: Final = 120.0
"""Seconds that unpacking, compiling and one inference may take."""
MOST_MEMORY: Final = 6 << 30
"""Bytes of address space; OpenVINO reserves far more than it uses."""
REFUSED: Final = 3
NO_DISK: Final = 4


async def admit(source: Path, folder: Path, name: str, device: str = "CPU", cache: Path | None = None) -> ModelPackage:
    """Unpack `source` into the empty `folder` and try it there. What was compiled is left in `cache`.

    Raises PackageError with one sentence, whatever the package did; OSError when the disk does not take it.
    """
    command = [sys.executable, "-m", "inference.quarantine", str(source), str(folder), name, "--device", device]
    if cache is not None:
        command += ["--cache", str(cache)]
    slow = f"{name} took longer than {PATIENCE:.0f} s to load and was given up."
    child = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(PATIENCE):
            _, said = await child.communicate()
    except TimeoutError:
        raise PackageError(slow) from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode == -signal.SIGXCPU:
        raise PackageError(slow)
    if child.returncode == REFUSED:
        raise PackageError(said.decode(errors="replace").strip().splitlines()[-1])
    if child.returncode == NO_DISK:
        raise OSError(said.decode(errors="replace").strip().splitlines()[-1])
    if child.returncode != 0:
        raise PackageError(f"{name} broke the program that tried to load it; the file is damaged or hostile.")
    return read(folder, name)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m inference.quarantine", description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("name")
    parser.add_argument("--device", default="CPU")
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args(arguments)
    for what, limit in (
        (resource.RLIMIT_AS, MOST_MEMORY),
        (resource.RLIMIT_CPU, int(PATIENCE)),
        (resource.RLIMIT_FSIZE, MOST_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        resource.setrlimit(what, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    try:
        package = unpack(options.source, options.folder, options.name)
        OpenVinoPolicy(package, options.device, options.cache).decide(blank())
    except (PackageError, ValueError, MemoryError) as error:
        print(str(error) or "The package needs more memory than there is.", file=sys.stderr)
        return REFUSED
    except OSError as error:
        print(error.strerror or error, file=sys.stderr)
        return NO_DISK
    return 0


def blank() -> Observation:
    """Two black pictures and an empty field."""
    frame = Frame(0.0, np.zeros((120, 160, 3), np.uint8))
    return Observation(0.0, (frame, frame), LidarScan(0.0, np.full(360, np.inf, np.float32)))


if __name__ == "__main__":
    sys.exit(main())
