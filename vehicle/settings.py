"""Settings: one TOML file -> frozen dataclasses; every value is checked where it is read."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from reprlib import repr as brief
from typing import Any, get_type_hints

from drivers.rig import Options


class SettingsError(ValueError):
    """A setting is unknown or out of its range; the message names the key and what it may be."""


def _within(low: float, high: float, default: float) -> Any:
    return field(default=default, metadata={"within": (low, high)})


def _one_of(default: str, *others: str) -> Any:
    return field(default=default, metadata={"one_of": (default, *others)})


@dataclass(frozen=True, slots=True)
class Car:
    rig: str = ""
    """`module:function` that opens this car's devices."""
    state: str = "/var/lib/hotlap"
    """The folder that remembers calibration and models."""


@dataclass(frozen=True, slots=True)
class Drive:
    rate_hz: float = _within(5, 60, 10)
    """Decisions a second."""
    max_speed: float = _within(0, 1, 0.5)
    """The slider's place at the start."""


@dataclass(frozen=True, slots=True)
class Inference:
    device: str = _one_of("CPU", "GPU", "AUTO")


@dataclass(frozen=True, slots=True)
class Console:
    host: str = "127.0.0.1"
    port: int = _within(0, 65535, 8443)
    redirect: int = _within(0, 65535, 0)
    """A port where those who come without encryption are led to the other; 0 is none."""
    upload_mb: int = _within(1, 1000, 200)
    """The largest model that may be uploaded."""


@dataclass(frozen=True, slots=True)
class Settings:
    car: Car = Car()
    devices: Options = field(default_factory=Options)
    drive: Drive = Drive()
    inference: Inference = Inference()
    console: Console = Console()


def load(path: Path) -> Settings:
    """The settings at `path`; what it leaves out has its default. Raises SettingsError, with the file's name."""
    try:
        return parse(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"There is no settings file {path}; write one, or name another with --settings.") from error
    except (OSError, SettingsError, ValueError) as error:
        raise SettingsError(f"{path}: {error}") from error


def parse(text: str) -> Settings:
    """Raises SettingsError."""
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"It is no valid TOML: {error}.") from error
    _known(data, Settings, "")
    types = get_type_hints(Settings)
    return Settings(**{name: _section(types[name], name, table) for name, table in data.items()})


def _known(table: dict[str, Any], kind: type, where: str) -> None:
    names = [entry.name for entry in fields(kind)]
    for key in table:
        if key not in names:
            near = difflib.get_close_matches(key, names, 1, 0)
            raise SettingsError(f"There is no setting {where}{key}; did you mean {where}{near[0]}?")


def _section(kind: type, name: str, table: object) -> Any:
    if not isinstance(table, dict):
        raise SettingsError(f"{name} must be a table: write [{name}] and its settings below it.")
    _known(table, kind, f"{name}.")
    types = get_type_hints(kind)
    values = {}
    for entry in fields(kind):
        if entry.name in table:
            value, wanted, key = table[entry.name], types[entry.name], f"{name}.{entry.name}"
            if type(value) is not wanted and not (wanted is float and type(value) is int):
                raise SettingsError(f"{key} must be of type {wanted.__name__}, not {brief(value)}.")
            low, high = entry.metadata.get("within", (value, value))
            if not low <= value <= high:
                raise SettingsError(f"{key} must lie in {low}..{high}, not {brief(value)}.")
            value = wanted(value)
            if value not in entry.metadata.get("one_of", (value,)):
                raise SettingsError(f"{key} must be one of {', '.join(entry.metadata['one_of'])}, not {brief(value)}.")
            values[entry.name] = value
    return kind(**values)
