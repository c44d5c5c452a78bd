"""How a foreign process is walled in on this machine: bubblewrap, else Landlock alone; what each gives and takes.

In both the box itself (cloud_trainer/box.py) gives up the rest before it reads anything foreign: limits,
capabilities, Landlock's rules, and a seccomp filter (cloud_trainer/seccomp.py), without which neither is a wall.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import marshal
import os
import platform
import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from cloud_trainer import seccomp
from cloud_trainer.box import LENGTH, REPLY, REWARDS

Way: TypeAlias = Literal["bubblewrap", "landlock", "trusted"]

BOX: Final = Path(__file__).with_name("box.py")
PACKAGES: Final = ("numpy", "scipy", "shapely")
"""All that a reward function may import beside the standard library."""
FLAGS: Final = ("-P", "-s", "-S", "-B")
"""Isolated, as with -I, but for the variables of ENVIRONMENT."""
ENVIRONMENT: Final = {
    "PYTHONHASHSEED": "0",
    "PYTHONWARNINGS": "ignore",
    "LC_ALL": "C.UTF-8",
    # A second thread is refused, and rewards are too small to gain by one.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
LIMITS: Final = {
    "RLIMIT_FSIZE": 0,
    "RLIMIT_NOFILE": 32,
    "RLIMIT_CORE": 0,
    # Of a box that nobody asks any more; a batch is watched by the wall clock.
    "RLIMIT_CPU": 24 * 3600,
}
_SYSTEM: Final = ("/usr/lib", "/usr/lib64", "/lib", "/lib64")
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3


@dataclass(frozen=True)
class Confinement:
    """How to start the box in one way, and what to tell it first."""

    way: Way
    command: tuple[str, ...]
    environment: dict[str, str]
    landlock: tuple[bytes, int, tuple[str, ...]] | None
    """The ruleset's attributes, the rights that are given, and the paths below which they are."""
    filter: bytes | None
    packages: dict[str, str]
    """Name to folder, as the box sees it."""

    def orders(self, memory: int, parent: int, load: Sequence[str] = ()) -> dict[str, Any]:
        """The first message to the box. `memory`: bytes of address space; `parent`: this process; `load`: modules."""
        limits = {**LIMITS, "RLIMIT_AS": memory}
        # In a namespace of its own the box sees another parent; there bubblewrap's --die-with-parent does that work.
        mine = None if self.way == "bubblewrap" else parent
        return {
            "limits": limits,
            "parent": mine,
            "landlock": self.landlock,
            "filter": self.filter,
            "packages": self.packages,
            "load": list(load),
        }


def confinement(way: Way) -> Confinement | str:
    """How to confine in this way here, or one clause that says why it cannot be. Tried once, then remembered."""
    return {"bubblewrap": _bubblewrap, "landlock": _landlock, "trusted": _trusted}[way]()


@functools.cache
def _bubblewrap() -> Confinement | str:
    bwrap = shutil.which("bwrap")
    if sys.platform != "linux" or bwrap is None:
        return "bubblewrap is not installed"
    rules = seccomp.program(platform.machine())
    if rules is None:
        return f"no system call filter is known for {platform.machine()}"
    binds: list[str] = []
    for folder in _SYSTEM:
        if Path(folder).is_symlink():
            binds += ["--symlink", str(Path(folder).readlink()), folder]
        elif Path(folder).is_dir():
            binds += ["--ro-bind", folder, folder]
    # The interpreter often lives in somebody's home: inside it stands where no path tells of that.
    python, library = _python()
    home = "/usr" if python.parent == Path("/usr/bin") else "/python"
    binds += ["--ro-bind", str(python), f"{home}/bin/{python.name}"]
    if home != "/usr":
        binds += ["--ro-bind", str(library), f"{home}/lib"]
        others = f"python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
        binds += ["--tmpfs", f"{home}/lib/{others}"] if (library / others).is_dir() else []
    packages = {name: f"/site/{name}" for name in _packages()}
    for inside in [each for package in _packages().values() for each in _beside(package)]:
        binds += ["--ro-bind", str(inside), f"/site/{inside.name}"]
    command = (
        *(bwrap, "--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"),
        *("--new-session", "--die-with-parent", "--hostname", "box", *binds),
        *("--ro-bind", str(BOX), "/box.py", "--remount-ro", "/", "--chdir", "/", "--"),
        *(f"{home}/bin/{python.name}", *FLAGS),
    )
    environment = {**ENVIRONMENT, "LD_LIBRARY_PATH": f"{home}/lib"} if home != "/usr" else ENVIRONMENT
    readable = (
        *(folder for folder in _SYSTEM if Path(folder).is_dir()),
        f"{home}/lib",
        *(["/site"] if packages else []),
    )
    landlock = (*_ruleset(), readable) if _abi() else None
    return _tried(Confinement("bubblewrap", (*command, "/box.py"), environment, landlock, rules, packages))


@functools.cache
def _landlock() -> Confinement | str:
    if not _abi():
        return "this kernel has no Landlock"
    rules = seccomp.program(platform.machine())
    if rules is None:
        return f"no system call filter is known for {platform.machine()}"
    python, library = _python()
    packages = _packages()
    beside = [folder for home in packages.values() for folder in _beside(home)]
    paths = [folder for folder in (*map(Path, _SYSTEM), library, *beside) if folder.exists()]
    homes = {name: str(home) for name, home in packages.items()}
    landlock = (*_ruleset(), tuple(map(str, paths)))
    return _tried(Confinement("landlock", (str(python), *FLAGS, str(BOX)), ENVIRONMENT, landlock, rules, homes))


@functools.cache
def _trusted() -> Confinement | str:
    packages = {name: str(home) for name, home in _packages().items()}
    return Confinement("trusted", (str(_python()[0]), *FLAGS, str(BOX)), ENVIRONMENT, None, None, packages)


def _tried(how: Confinement) -> Confinement | str:
    """The same if a box starts in it and confines itself; else why not."""
    task = {"source": "def reward_function(params): pass", "seed": 0, "seconds": 5.0}
    messages = (marshal.dumps(message) for message in (how.orders(1 << 30, os.getpid()), task))
    try:
        done = subprocess.run(
            how.command,
            input=b"".join(LENGTH.pack(len(message)) + message for message in messages),
            capture_output=True,
            env=how.environment,
            cwd="/",
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{how.way} does not work here ({error})"
    if done.stdout == REPLY.pack(0, REWARDS, 0, 0, 0):
        return how
    said = (done.stderr or done.stdout[REPLY.size :]).decode(errors="replace").strip().splitlines()
    return f"{how.way} does not work here ({said[-1] if said else f'exit {done.returncode}'})"


def _python() -> tuple[Path, Path]:
    """The interpreter's own file, not a virtual environment's link to it, and the folder of its libraries."""
    return Path(sys.executable).resolve(), Path(sys.base_prefix).resolve() / "lib"


def _packages() -> dict[str, Path]:
    """The folders of those packages that are installed, found without importing them."""
    found = {name: importlib.util.find_spec(name) for name in PACKAGES}
    return {name: Path(spec.origin).resolve().parent for name, spec in found.items() if spec and spec.origin}


def _beside(home: Path) -> list[Path]:
    """A package's folder, and that of the shared libraries which its wheel put beside it."""
    libraries = home.with_name(f"{home.name}.libs")
    return [home, libraries] if libraries.is_dir() else [home]


@functools.cache
def _abi() -> int:
    """Landlock's version in this kernel; 0: none."""
    if sys.platform != "linux":
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    # landlock_create_ruleset(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION)
    return max(0, int(libc.syscall(ctypes.c_long(444), None, ctypes.c_size_t(0), ctypes.c_uint(1))))


def _ruleset() -> tuple[bytes, int]:
    """Everything that this kernel's Landlock can forbid, and the rights that the box gets back on its paths."""
    abi = _abi()
    files = (1 << 13) - 1 | (abi >= 2) << 13 | (abi >= 3) << 14 | (abi >= 5) << 15
    network, scopes = (3 if abi >= 4 else 0), (3 if abi >= 6 else 0)
    words = 1 + (abi >= 4) + (abi >= 6)
    return struct.pack("=QQQ", files, network, scopes)[: 8 * words], _READ_FILE | _READ_DIR
