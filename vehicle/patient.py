"""The car as the doctor's checks see it: its settings, its files, its services, and what its daemon says."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, Literal, TypeAlias

from drivers.camera import Query, takes_pictures
from drivers.i2c import Bus, open_bus
from vehicle.settings import Settings, SettingsError
from vehicle.state import faults_of

State: TypeAlias = Literal["ok", "warn", "bad", "absent"]
Verdict: TypeAlias = tuple[State, str, str]
"""How it is, a sentence that says it, and what to do."""

PATIENCE: Final = 3.0
"""Seconds that one check may take; a device that hangs hangs alone."""
USER: Final = "hotlap"
DAEMON, NETWORK, DRIVES, SSH, CABLE = "hotlap-car", "NetworkManager", "udisks2", "ssh", "hotlap-usb"
OLD, OLD_DOOR = "deepracer-core", "nginx"
AGAIN: Final = "Run scripts/install-car again."

_PROPERTIES: Final = "Id,LoadState,ActiveState,Result,StatusText,LimitRTPRIO,LimitMEMLOCK"


class Settled(Exception):
    """The check need not go on: this is what it comes to."""

    def __init__(self, state: State, sentence: str, advice: str = "") -> None:
        super().__init__(sentence)
        self.verdict: Verdict = state, sentence, advice


@dataclass(frozen=True)
class Patient:
    settings: Settings | SettingsError
    root: Path
    told: Mapping[str, str] | None = None
    """The faults by device, where the daemon itself asks; None has systemd asked what the daemon told it."""
    bus: Callable[[Path], Bus] = field(default=open_bus)
    query: Query = field(default=takes_pictures)

    @property
    def known(self) -> Settings:
        return Settings() if isinstance(self.settings, SettingsError) else self.settings

    @property
    def rig(self) -> str:
        return self.known.car.rig.partition(":")[0]

    @property
    def is_pi(self) -> bool:
        return self.rig == "drivers.raspberry_pi"

    @property
    def state(self) -> Path:
        """The folder of what the car remembers."""
        return self.root / self.known.car.state.lstrip("/")

    @cached_property
    def units(self) -> Mapping[str, Mapping[str, str]] | None:
        """By systemd, each unit's properties; None where there is no systemd."""
        if not (self.root / "run/systemd/system").exists():
            return None
        names = [f"{name}.service" for name in (DAEMON, NETWORK, DRIVES, SSH, CABLE, OLD, OLD_DOOR)]
        blocks = (ask("systemctl", "show", f"--property={_PROPERTIES}", *names) or "").split("\n\n")
        units = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in blocks]
        return {unit["Id"].removesuffix(".service"): unit for unit in units if "Id" in unit}

    def active(self, unit: str) -> bool:
        return self.unit(unit, "ActiveState") == "active"

    def unit(self, unit: str, name: str) -> str:
        """Empty where it is not known."""
        return (self.units or {}).get(unit, {}).get(name, "")

    @property
    def runs(self) -> bool:
        """Whether the daemon does, and so tells its faults itself."""
        return self.told is not None or self.active(DAEMON)

    @property
    def status(self) -> str:
        """What the daemon told systemd; empty while it does not run."""
        return self.unit(DAEMON, "StatusText") if self.active(DAEMON) else ""

    @property
    def faults(self) -> Mapping[str, str]:
        """The daemon's, by device."""
        return self.told if self.told is not None else faults_of(self.status)

    def need_devices(self) -> None:
        if self.rig not in ("drivers.deepracer", "drivers.raspberry_pi"):
            raise Settled("absent", "The settings name no DeepRacer and no Raspberry Pi.")

    def need_systemd(self) -> None:
        if self.units is None:
            raise Settled("absent", "This machine was not started by systemd.")
        if DAEMON not in self.units:
            raise Settled("bad", "systemd does not answer.", "Start the car anew.")

    def may_write(self, path: Path) -> bool:
        """Whether the daemon's user may, whoever asks. Raises OSError when there is no such file."""
        stat, (uid, gids) = path.stat(), self.user()
        shift = 6 if stat.st_uid == uid else 3 if stat.st_gid in gids else 0
        return bool(stat.st_mode >> shift & 2)

    def may_ask(self, node: Path) -> bool:
        """Whether to talk to a device now: only while the daemon does not, and only if this process may."""
        return not self.runs and os.access(node, os.R_OK | os.W_OK)

    def user(self) -> tuple[int, set[int]]:
        """The daemon's user: its number and those of its groups. Raises Settled when there is none."""
        users = {line[0]: line for line in table(self.root / "etc/passwd", 7)}
        if USER not in users:
            raise Settled("bad", f"There is no user {USER}.", "Run scripts/install-car.")
        groups = {int(line[2]) for line in table(self.root / "etc/group", 4) if USER in line[3].split(",")}
        return int(users[USER][2]), groups | {int(users[USER][3])}


def table(path: Path, columns: int) -> list[list[str]]:
    """The lines of that many columns in a file such as /etc/passwd."""
    lines = (line.split(":") for line in path.read_text("utf-8", "replace").splitlines())
    return [line for line in lines if len(line) == columns]


def text(path: Path) -> str:
    """What the file holds; empty where there is none."""
    try:
        return path.read_text("utf-8", "replace").strip()
    except FileNotFoundError:
        return ""


def ask(*command: str) -> str | None:
    """What a program says; None when it is not there, fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout if done.returncode == 0 else None


def parted(*sentences: str) -> tuple[str, str]:
    """What is wrong, and what to do, of sentences such as "The camera is not found; plug it in."."""
    problems, advice = [], []
    for sentence in dict.fromkeys(sentences):
        problem, _, remedy = sentence.partition("; ")
        if not remedy or ". " in sentence:
            problem, remedy = sentence.removesuffix("."), ""
        problems.append(f"{problem}.")
        advice.append(remedy[:1].upper() + remedy[1:])
    return " ".join(problems), " ".join(filter(None, dict.fromkeys(advice)))
