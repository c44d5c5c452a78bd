"""Strangers' models are tried in a process that may die of it; the daemon's own lives and says why in a sentence."""

from __future__ import annotations

import asyncio
import contextlib
import math
import subprocess
import sys
from pathlib import Path

import pytest

from inference.package import METADATA, PackageError, read
from inference.policy import OpenVinoPolicy
from inference.quarantine import admit, blank
from tests.inference.making import WEIGHTS, archive, frozen, metadata, onnx, package


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "package").mkdir()
    return tmp_path / "package"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def processes_on(folder: Path) -> list[str]:
    """The command lines of all processes that were told of `folder`."""
    command_lines = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it may be gone by now
            command_lines.append(process.read_text(errors="replace"))
    return [line for line in command_lines if str(folder) in line]


async def test_a_good_package_is_admitted_and_compiled(tmp_path: Path, folder: Path) -> None:
    cache = tmp_path / "cache"
    admitted = await admit(package(tmp_path / "a.tar.gz"), folder, "a", cache=cache)
    assert admitted == read(folder, "a")
    assert names_in(folder) == ["model.onnx", METADATA]
    blobs = names_in(cache)
    assert blobs
    OpenVinoPolicy(admitted, cache=cache).decide(blank())
    assert names_in(cache) == blobs


NAN = WEIGHTS * math.nan
BROKEN = {
    "no archive": (b"no archive", "'a.tar.gz' is no complete .tar or .tar.gz archive"),
    "no metadata": (archive({"m.pb": b"g"}), f"has no {METADATA}"),
    "cut graph": (archive({"m.pb": frozen()[:-30], METADATA: metadata()}), "OpenVINO cannot read the model of a"),
    "another size": (archive({"m.onnx": onnx(), METADATA: metadata(7)}), "its action space has 7 values"),
    "no numbers": (archive({"m.onnx": onnx(NAN), METADATA: metadata()}), "numbers that are not finite"),
}


@pytest.mark.parametrize(("data", "said"), BROKEN.values(), ids=BROKEN)
async def test_a_bad_package_is_refused_with_its_sentence(tmp_path: Path, folder: Path, data: bytes, said: str) -> None:
    (tmp_path / "a.tar.gz").write_bytes(data)
    with pytest.raises(PackageError, match=said) as error:
        await admit(tmp_path / "a.tar.gz", folder, "a")
    assert str(error.value).endswith(".")
    assert str(error.value).isprintable()


async def test_whoever_gives_up_leaves_no_process_behind(tmp_path: Path, folder: Path) -> None:
    source = package(tmp_path / "a.tar.gz")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(admit(source, folder, "a"), 0.01)
    assert not processes_on(folder)


DAEMON = """
import asyncio, resource, sys
from pathlib import Path
from inference.quarantine import admit

limit, more = sys.argv[3:]
used = resource.getrusage(resource.RUSAGE_SELF)
most = int(more) + (int(used.ru_utime + used.ru_stime) if limit == "RLIMIT_CPU" else 0)
resource.setrlimit(getattr(resource, limit), (most, most))
try:
    asyncio.run(admit(Path(sys.argv[1]), Path(sys.argv[2]), "a", cache=Path(sys.argv[2]).with_name("cache")))
except Exception as error:
    print(type(error).__name__, error)
"""


def daemon(source: Path, folder: Path, limit: str, more: int) -> str:
    """What a daemon says that admits `source` with so much of something; it must live to say it."""
    command = [sys.executable, "-c", DAEMON, str(source), str(folder), limit, str(more)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def test_a_model_that_eats_all_time_is_refused(tmp_path: Path, folder: Path) -> None:
    endless = package(tmp_path / "a.tar.gz", onnx(depth=20_000))
    assert daemon(endless, folder, "RLIMIT_CPU", 2).startswith("PackageError a broke the program that tried to load it")


async def test_a_model_that_eats_all_memory_is_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(PackageError, match=r"^OpenVINO cannot read the model of a: .*\.$"):
        await admit(package(tmp_path / "a.tar.gz", onnx(wide=1 << 34)), folder, "a")


def test_a_full_disk_is_no_fault_of_the_package(tmp_path: Path, folder: Path) -> None:
    assert daemon(package(tmp_path / "a.tar.gz"), folder, "RLIMIT_FSIZE", 100) == "OSError File too large"


def test_a_disk_too_full_for_what_was_compiled_costs_only_that(tmp_path: Path, folder: Path) -> None:
    assert daemon(package(tmp_path / "a.tar.gz"), folder, "RLIMIT_FSIZE", 3000) == ""
    OpenVinoPolicy(read(folder, "a"), cache=tmp_path / "cache").decide(blank())
    assert max(blob.stat().st_size for blob in (tmp_path / "cache").iterdir()) > 3000
