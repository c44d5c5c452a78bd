"""ModelPackage: open, verify and describe a model somebody made; nothing in it is executed.

PackageError (ValueError)   the package cannot be used; one sentence says why
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import tarfile
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from reprlib import repr as brief
from typing import IO, Final, NoReturn, cast

from inference.actions import ContinuousActions, DiscreteActions

MOST_BYTES: Final = 1 << 30
MOST_FILES: Final = 1000
MOST_RATIO: Final = 100
"""Weights hardly compress: whatever unpacks to a hundred times its size is no model."""
LARGEST_METADATA: Final = 1 << 20
LARGEST_FIGURE: Final = 1e6
"""No angle, speed or distance comes near it; sums and products of such numbers stay finite."""
SHORTEST_REACH: Final = 0.01
METADATA: Final = "model_metadata.json"
GRAPHS: Final = (".pb", ".onnx", ".xml")
"""The kinds of graph there are, best first: a package may carry an .xml made from its .pb beside it."""


class PackageError(ValueError):
    """This is no package that a car can drive with; one sentence says why and, where it helps, what to do."""


class Sensor(StrEnum):
    OBSERVATION = "observation"
    FRONT_FACING_CAMERA = "FRONT_FACING_CAMERA"
    LEFT_CAMERA = "LEFT_CAMERA"
    STEREO_CAMERAS = "STEREO_CAMERAS"
    LIDAR = "LIDAR"
    SECTOR_LIDAR = "SECTOR_LIDAR"
    DISCRETIZED_SECTOR_LIDAR = "DISCRETIZED_SECTOR_LIDAR"

    @property
    def is_lidar(self) -> bool:
        return self in (Sensor.LIDAR, Sensor.SECTOR_LIDAR, Sensor.DISCRETIZED_SECTOR_LIDAR)

    @property
    def cameras(self) -> int:
        """How many cameras a car needs for it."""
        return 0 if self.is_lidar else 2 if self is Sensor.STEREO_CAMERAS else 1


@dataclass(frozen=True, slots=True)
class LidarConfig:
    """How a scan becomes a network's input: angles in degrees of the sensor's own frame, distances in metres."""

    num_values: int = 64
    min_angle: float = -150.0
    max_angle: float = 150.0
    min_distance: float = 0.15
    max_distance: float = 0.5
    clipping_distance: float = 1.0
    num_sectors: int = 64

    def __post_init__(self) -> None:
        """Raises PackageError."""
        if self.num_values < 1 or self.num_sectors < 1 or self.num_values % self.num_sectors or self.num_values > 4096:
            raise PackageError("lidar_config: num_values must be 1..4096 and a multiple of num_sectors.")
        if not -360 <= self.min_angle <= self.max_angle <= 360:
            raise PackageError("lidar_config: min_angle must not be larger than max_angle, and both lie in -360..360.")
        if not 0 <= self.min_distance <= min(self.max_distance, self.clipping_distance):
            raise PackageError("lidar_config: min_distance must not be larger than max_distance and clipping_distance.")
        if min(self.max_distance, self.clipping_distance) < SHORTEST_REACH:
            raise PackageError(f"lidar_config: max_distance and clipping_distance must be at least {SHORTEST_REACH} m.")


LIDAR_DEFAULTS: Final = {
    Sensor.LIDAR: LidarConfig(),
    Sensor.SECTOR_LIDAR: LidarConfig(clipping_distance=0.5, num_sectors=8),
    Sensor.DISCRETIZED_SECTOR_LIDAR: LidarConfig(max_distance=2.0, clipping_distance=2.0, num_sectors=8),
}


@dataclass(frozen=True, slots=True)
class Metadata:
    """What `model_metadata.json` says, defaults filled in as the stock car does."""

    sensors: tuple[Sensor, ...]
    action_space: DiscreteActions | ContinuousActions
    algorithm: str
    network: str
    version: str
    lidar: LidarConfig | None


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A verified package. `digest` is the SHA-256 over graph and metadata; `path` the folder that holds both."""

    name: str
    digest: str
    path: Path
    graph: Path
    metadata: Metadata

    @property
    def sensors(self) -> tuple[Sensor, ...]:
        return self.metadata.sensors

    @property
    def cameras(self) -> int:
        """How many cameras a car needs for it."""
        return sum(sensor.cameras for sensor in self.sensors)

    @property
    def needs_lidar(self) -> bool:
        return any(sensor.is_lidar for sensor in self.sensors)


def name_of(source: Path) -> str:
    """The name that a package gets from its file: up to the first dot, spaces to `_`, nothing a path could mind."""
    stem = source.name.split(".")[0]
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_-]+", "_", plain).strip("_-")[:64] or "model"


def unpack(source: Path, folder: Path, name: str | None = None) -> ModelPackage:
    """Copy graph and metadata out of a `.tar.gz`, a `.tar` or a folder into the existing, empty `folder`.

    Nothing else of the source is written. The source's own names are never used as paths. Raises PackageError, or
    OSError when the disk does not take it; `folder` then holds whatever came before.
    """
    if not source.exists():
        raise PackageError(f"There is no file {source}.")
    files = _Finds(folder)
    if source.is_dir():
        _copy_folder(source, files)
    else:
        read_archive(source, files.take)
    files.settle()
    return read(folder, name or name_of(source))


def read(folder: Path, name: str) -> ModelPackage:
    """The package that `unpack` left in `folder`. Raises PackageError."""
    graph = next((path for kind in GRAPHS if (path := folder / f"model{kind}").is_file()), None)
    if graph is None:
        raise PackageError(f"{name} holds no model: a package needs one .pb (or .onnx, or .xml and .bin) file.")
    try:
        text = (folder / METADATA).read_bytes()
    except FileNotFoundError as error:
        raise PackageError(f"{name} has no {METADATA}: put it at the root of the archive.") from error
    digest = hashlib.sha256(text)
    for part in (graph, graph.with_suffix(".bin")):
        if part.is_file():
            with part.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return ModelPackage(name, digest.hexdigest(), folder, graph, parse_metadata(text))


class _Finds:
    """The files of a package that matter, on their way into a folder under names of our own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found: dict[PurePosixPath, Path] = {}
        self.files = 0

    def take(self, name: str, size: int, content: IO[bytes] | None) -> None:
        path = PurePosixPath(name)
        self.files += 1
        if self.files > MOST_FILES:
            raise PackageError(f"The package holds more than {MOST_FILES} files: pack only the model and its metadata.")
        if path.is_absolute() or ".." in path.parts or "\0" in name:
            raise PackageError(f"The package names a file outside its own folder ({brief(name)}); it is refused whole.")
        wanted = path.name == METADATA or path.suffix in (*GRAPHS, ".bin")
        if content is None or not wanted or path.name.startswith("._"):
            return
        if path.name == METADATA and size > LARGEST_METADATA:
            raise PackageError(f"{METADATA} is larger than {LARGEST_METADATA} bytes.")
        if path in self.found:
            raise PackageError(f"The package holds {brief(name)} twice.")
        self.found[path] = self.folder / f"part-{len(self.found)}"
        with self.found[path].open("xb") as file:
            shutil.copyfileobj(content, file, 1 << 20)

    def settle(self) -> None:
        """Give the one graph and its metadata their names and drop the rest."""
        for kind in GRAPHS:
            graphs = [path for path in self.found if path.suffix == kind]
            if len(graphs) > 1:
                names = ", ".join(brief(str(path)) for path in sorted(graphs)[:4])
                raise PackageError(f"The package holds several models ({names}): pack one alone.")
            if graphs:
                weights = self.found.get(graphs[0].with_suffix(".bin"))
                if kind == ".xml" and weights is None:
                    raise PackageError(f"{brief(str(graphs[0]))} comes without its weights, the .bin file beside it.")
                self.found.pop(graphs[0]).rename(self.folder / f"model{kind}")
                if kind == ".xml" and weights is not None:
                    weights.rename(self.folder / "model.bin")
                break
        described = sorted((path for path in self.found if path.name == METADATA), key=lambda path: len(path.parts))
        if described:
            self.found[described[0]].rename(self.folder / METADATA)
        for leftover in self.found.values():
            leftover.unlink(missing_ok=True)


def _copy_folder(source: Path, files: _Finds) -> None:
    for path in sorted(source.rglob("*")):
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise PackageError(f"{path.name!r} is a link or a device; a package holds plain files only.")
        if path.is_file():
            size = path.stat().st_size
            if size > MOST_BYTES:
                raise PackageError(f"{path.name!r} is larger than 1 GiB.")
            with path.open("rb") as content:
                files.take(path.relative_to(source).as_posix(), size, content)


def read_archive(source: Path, take: Callable[[str, int, IO[bytes] | None], None]) -> None:
    """Hand each entry of a `.tar.gz` or `.tar` to `take`: its name, its size, and its content unless it is a folder.

    Names are a stranger's. Raises PackageError where it is no whole archive, holds a link, or far too many bytes.
    """
    try:
        with source.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            stream = _Meter(gzip.GzipFile(fileobj=raw) if packed else raw, max(source.stat().st_size, 1 << 16))
            with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|") as archive:
                for entry in archive:
                    if not (entry.isreg() or entry.isdir()) or entry.issparse():
                        raise PackageError(
                            f"{brief(entry.name)} is a link or a device; a package holds plain files only."
                        )
                    take(entry.name, entry.size, archive.extractfile(entry) if entry.isreg() else None)
            while stream.read(1 << 20):  # to the checksum at the end, which the archive itself never asks for
                pass
    except PackageError:
        raise
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, RecursionError) as error:
        raise PackageError(f"{source.name!r} is no complete .tar or .tar.gz archive: {error}.") from error


class _Meter:
    """Reads through, and refuses to go on when more comes out than a model can be."""

    def __init__(self, source: IO[bytes] | gzip.GzipFile, packed_size: int) -> None:
        self.source = source
        self.most = min(MOST_BYTES, MOST_RATIO * packed_size)
        self.count = 0

    def read(self, size: int) -> bytes:
        data = self.source.read(size)
        self.count += len(data)
        if self.count > self.most:
            raise PackageError(f"The package unpacks to more than {self.most >> 20} MiB; no model is that large.")
        return data


def parse_metadata(text: bytes) -> Metadata:
    """Read `model_metadata.json` as the stock car does: its defaults, but wrong types and numbers are refused.

    Raises PackageError.
    """
    if len(text) > LARGEST_METADATA:
        raise PackageError(f"{METADATA} is larger than {LARGEST_METADATA} bytes.")
    try:
        data = json.loads(text.decode("utf-8-sig"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise PackageError(f"{METADATA} is not valid JSON: {error}.") from error
    if not isinstance(data, dict):
        raise PackageError(f"{METADATA} must hold a JSON object.")
    sensors = _sensors(data.get("sensor", ["observation"]))
    algorithm = _one_of(data, "training_algorithm", ("clipped_ppo", "sac"))
    kind = _one_of(data, "action_space_type", ("discrete", "continuous"))
    if "action_space" not in data:
        raise PackageError(f"{METADATA} has no action_space: the car would not know what the model's answers mean.")
    space = (_discrete if kind == "discrete" else _continuous)(data["action_space"])
    network, version = data.get("neural_network"), data.get("version")
    return Metadata(
        sensors=sensors,
        action_space=space,
        algorithm=algorithm,
        network=network if isinstance(network, str) else "DEEP_CONVOLUTIONAL_NETWORK_SHALLOW",
        version=str(version) if isinstance(version, str | int) else "",
        lidar=_lidar(data.get("lidar_config"), sensors),
    )


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _one_of(data: dict[str, object], key: str, allowed: tuple[str, ...]) -> str:
    value = data.get(key, allowed[0])
    if value not in allowed or not isinstance(value, str):
        raise PackageError(f"{METADATA}: {key} must be {' or '.join(allowed)}, not {brief(value)}.")
    return value


def _sensors(value: object) -> tuple[Sensor, ...]:
    known = {sensor.value: sensor for sensor in Sensor}
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item in known for item in value):
        raise PackageError(f"{METADATA}: sensor must be a list of {', '.join(known)}, not {brief(value)}.")
    sensors = tuple(dict.fromkeys(known[item] for item in value))
    if sum(s.is_lidar for s in sensors) > 1 or sum(not s.is_lidar for s in sensors) > 1:
        raise PackageError(
            f"{METADATA}: a model has at most one camera sensor and one LiDAR sensor, not {brief(value)}."
        )
    return sensors


def _number(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST_FIGURE:
        raise PackageError(f"{METADATA}: {what} must be a number of at most a million, not {brief(value)}.")
    return float(value)


def _discrete(value: object) -> DiscreteActions:
    if not isinstance(value, list) or not value:
        raise PackageError(
            f"{METADATA}: action_space must be a list of at least one action (or action_space_type 'continuous')."
        )
    choices = []
    for place, action in enumerate(value):
        if not isinstance(action, dict) or not {"steering_angle", "speed"} <= action.keys():
            raise PackageError(f"{METADATA}: action {place} needs a steering_angle and a speed.")
        angle, speed = (_number(action[key], f"{key} of action {place}") for key in ("steering_angle", "speed"))
        choices.append((angle, speed))
    return DiscreteActions(_drivable(choices))


def _drivable(choices: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    if min(speed for _, speed in choices) < 0 or max(speed for _, speed in choices) <= 0:
        raise PackageError(f"{METADATA}: speeds must not be negative, and one of them must be above zero.")
    return tuple(choices)


def _continuous(value: object) -> ContinuousActions:
    if not isinstance(value, dict):
        raise PackageError(f"{METADATA}: a continuous action_space is an object with steering_angle and speed.")
    ranges = []
    for key in ("steering_angle", "speed"):
        ends = value.get(key)
        if not isinstance(ends, dict) or not {"low", "high"} <= ends.keys():
            raise PackageError(f"{METADATA}: {key} of the action_space needs a low and a high end.")
        low, high = (_number(ends[end], f"{end} of {key}") for end in ("low", "high"))
        if not low < high:
            raise PackageError(f"{METADATA}: low must be smaller than high for {key}, not {low} and {high}.")
        ranges.append((low, high))
    _drivable([(0.0, speed) for speed in ranges[1]])
    return ContinuousActions(steering_deg=ranges[0], speed=ranges[1])


def _lidar(value: object, sensors: tuple[Sensor, ...]) -> LidarConfig | None:
    sensor = next((sensor for sensor in sensors if sensor.is_lidar), None)
    if sensor is None or value is None:
        return LIDAR_DEFAULTS[sensor] if sensor else None
    keys = tuple(LidarConfig.__slots__)
    if not isinstance(value, dict) or not set(keys) <= value.keys():
        raise PackageError(f"{METADATA}: lidar_config needs all of {', '.join(keys)}.")
    figures = dict(_figures(value, keys))
    values, sectors = int(figures.pop("num_values")), int(figures.pop("num_sectors"))
    return LidarConfig(num_values=values, num_sectors=sectors, **figures)


def _figures(value: dict[str, object], keys: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    for key in keys:
        number = _number(value[key], f"lidar_config.{key}")
        if key.startswith("num_") and number != int(number):
            raise PackageError(f"{METADATA}: lidar_config.{key} must be a whole number, not {number}.")
        yield key, number
