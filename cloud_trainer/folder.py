"""A training's folder as the original service lays it out: its model written, and the whole read back, from anybody."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from reprlib import repr as brief
from typing import IO, Any, Final, TypeAlias

import numpy as np
import torch

from cloud_trainer.agent import Agent
from cloud_trainer.bundle import meta_graph, read_bundle, write_bundle
from cloud_trainer.diagnose import Diagnostic, decode
from cloud_trainer.export import agent_of, freeze, thaw
from cloud_trainer.graph import FrozenGraph, GraphDef, GraphWriter
from cloud_trainer.job import Hyperparameters, Job, JobError, read_hyperparameters
from cloud_trainer.network import PolicyNetwork
from cloud_trainer.params import read_training_params
from inference.package import METADATA, MOST_BYTES, ModelPackage, PackageError, name_of, read, read_archive, unpack

COACH: Final = ".coach_checkpoint"
CHECKPOINTS: Final = "deepracer_checkpoints.json"
REWARD: Final = "reward_function.py"
PARAMS: Final = "training_params.yaml"
HYPERPARAMETERS: Final = "hyperparameters.json"
READY: Final = ".ready"
DATA: Final = "data-00000-of-00001"
LARGEST_TEXT: Final = 10 << 20
MOST_FILES: Final = 100_000
_MARKS: Final = frozenset((COACH, CHECKPOINTS, REWARD, PARAMS, HYPERPARAMETERS))
"""What a car package does not hold."""
_WEIGHTS: Final = ("/kernel", "/bias")
_Paths: TypeAlias = dict[PurePosixPath, Path]
"""By the path within a folder or an archive, where the file can be read."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A policy at the end of an iteration, after so many `steps` and seconds of training; `metric` of its evaluation,
    if it had one."""

    iteration: int
    steps: int
    metric: float | None
    time: float
    policy: PolicyNetwork

    @property
    def checkpoint(self) -> str:
        """The original's name for it."""
        return f"{self.iteration}_Step-{self.steps}.ckpt"


def model_files(agent: Agent, last: Snapshot, best: Snapshot) -> dict[str, bytes]:
    """The folder's files that hold the model: path to content.

    Everything is there that the original's importers ask for, and both checkpoints can be restored by TensorFlow from
    their `.meta`. But a checkpoint holds the policy alone, without the value network and the optimizer's memory: the
    original's trainer, which expects them, cannot go on from it.
    """
    metadata = (json.dumps(agent.metadata(), indent=2) + "\n").encode()
    told = {
        f"{which}_checkpoint": {
            "name": snapshot.checkpoint,
            "avg_eval_metric": snapshot.metric if math.isfinite(snapshot.metric or 0.0) else None,
            "time_stamp": snapshot.time,
        }
        for which, snapshot in (("best", best), ("last", last))
    }
    files = {
        METADATA: metadata,
        f"model/{METADATA}": metadata,
        f"model/{CHECKPOINTS}": json.dumps(told).encode(),
        f"model/{COACH}": last.checkpoint.encode(),
        f"model/{READY}": b"",
    }
    for checkpoint, snapshot in {each.checkpoint: each for each in (best, last)}.items():
        graph = freeze(snapshot.policy)
        frozen = FrozenGraph(graph)
        names = [node.name for node in GraphDef.FromString(graph).node if node.name.endswith(_WEIGHTS)]
        index, data = write_bundle({name: frozen.floats(name, frozen.shape(name) or ()) for name in names})
        files |= {
            f"model/model_{snapshot.iteration}.pb": graph,
            f"model/{checkpoint}.index": index,
            f"model/{checkpoint}.{DATA}": data,
            f"model/{checkpoint}.meta": meta_graph(graph, names),
        }
    return files


@dataclass(frozen=True, slots=True)
class Imported:
    """What can be trained further: values for read_job, as far as they are told, and the policy's graph, as freeze()
    writes it."""

    job: dict[str, Any]
    graph: bytes


def open_model(source: Path) -> Imported:
    """Of a car's package, or of a training: its folder, or a `.tar.gz` or `.tar` of one, whoever made it.

    Of a training's checkpoints the best is taken, else the last: the frozen graph, or where that is gone, TensorFlow's
    checkpoint. Settings of the original that mean nothing here are left out. The reward function is only text.
    Raises PackageError, JobError and its kin, OSError.
    """
    with _opened(source) as found:
        if _is_training(found):
            return _read_training(source, found)
    with tempfile.TemporaryDirectory() as room:
        return _imported(unpack(source, Path(room)), {})


def _read_training(source: Path, found: _Paths) -> Imported:
    folder = _Folder(source.name, _rooted(source.name, found))
    job = _settings(folder)
    metadata, graph = folder.read(METADATA, f"model/{METADATA}"), _graph(folder)
    with tempfile.TemporaryDirectory() as room:
        (Path(room) / METADATA).write_bytes(metadata or b"")
        (Path(room) / "model.pb").write_bytes(graph)
        return _imported(read(Path(room), name_of(source)), job)


def _imported(package: ModelPackage, job: Mapping[str, Any]) -> Imported:
    agent = agent_of(package)
    with torch.device("meta"):
        policy = agent.policy()
    policy.to_empty(device="cpu")
    thaw(package.graph.read_bytes(), policy)
    return Imported({**job, "agent": Job(agent=agent).document()["agent"]}, freeze(policy))


def _settings(folder: _Folder) -> dict[str, Any]:
    """Values for read_job, as far as they are told."""
    job: dict[str, Any] = {}
    if (text := folder.read(PARAMS)) is not None:
        job |= read_training_params(_text(PARAMS, text))
    if (text := folder.read(f"ip/{HYPERPARAMETERS}", HYPERPARAMETERS)) is not None:
        job["hyperparameters"] = _hyperparameters(text)
    if (text := folder.read(REWARD)) is not None:
        job["reward_function"] = _text(REWARD, text)
    return job


def _text(name: str, data: bytes) -> str:
    text = decode(data)
    if isinstance(text, Diagnostic):
        raise JobError(f"{name}:{text.line}:{text.column}: {text.message}.")
    return text


def _hyperparameters(text: bytes) -> dict[str, Any]:
    """Those that there are here. Raises JobError where one is out of its range."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise JobError(f"{HYPERPARAMETERS} is no JSON: {error}.") from error
    if not isinstance(said, dict):
        raise JobError(f"{HYPERPARAMETERS} must hold a JSON object.")
    known = {field.name for field in fields(Hyperparameters)}
    values = {key: value for key, value in said.items() if key in known and value is not None}
    if values.get("exploration_type") == "additive_noise":  # the community's word for what SAC does anyway
        del values["exploration_type"]
    read_hyperparameters(values)
    return values


# Its checkpoints


@dataclass(frozen=True, slots=True)
class _Folder:
    """Files by their paths from the training's root."""

    name: str
    files: Mapping[str, Path]

    def read(self, *paths: str, most: int = LARGEST_TEXT) -> bytes | None:
        """The first of them that is there. Raises PackageError where it is too large."""
        path = next((path for path in paths if path in self.files), None)
        if path is None:
            return None
        if self.files[path].stat().st_size > most:
            raise PackageError(f"{path} of {self.name} is larger than {most >> 20} MiB, the most that is read.")
        return self.files[path].read_bytes()


def _graph(folder: _Folder) -> bytes:
    """What holds the weights, under the names of a frozen graph."""
    names = _named(folder)
    for name, number in names.items():
        graph = folder.read(f"model/model_{number}.pb", most=MOST_BYTES)
        if graph is not None:
            return graph
        index = folder.read(f"model/{name}.index")
        data = folder.read(f"model/{name}.{DATA}", most=MOST_BYTES)
        if index is not None and data is not None:
            return _restored(index, data)
    graph = folder.read("agent/model.pb", "model/agent/model.pb", most=MOST_BYTES)
    if graph is not None:
        return graph
    if names:
        name, number = next(iter(names.items()))
        raise PackageError(
            f"{folder.name} lacks the files of its checkpoint: there must be model/model_{number}.pb, or "
            f"model/{name}.index and model/{name}.{DATA}."
        )
    if any(path.startswith("model/") and path.endswith((".pb", ".index", DATA)) for path in folder.files):
        raise PackageError(
            f"{folder.name} has no coach file, model/{COACH}, which names the checkpoint to take: put it back, or one "
            "that holds a name like 12_Step-34567.ckpt."
        )
    raise PackageError(f"{folder.name} holds no model: neither a checkpoint in model/ nor agent/model.pb.")


def _named(folder: _Folder) -> dict[str, str]:
    """The names of its checkpoints, the best first, and their numbers."""
    said: list[object] = []
    if (text := folder.read(f"model/{CHECKPOINTS}")) is not None:
        try:
            told = json.loads(text)
            said += [(told.get(f"{which}_checkpoint") or {}).get("name") for which in ("best", "last")]
        except (ValueError, AttributeError, RecursionError) as error:
            raise PackageError(f"model/{CHECKPOINTS} of {folder.name} is damaged: it names no checkpoints.") from error
    if (text := folder.read(f"model/{COACH}")) is not None:
        said.append(text.decode("utf-8", "replace").strip())
    names = [name for name in said if isinstance(name, str) and name]
    found = [re.fullmatch(r"([0-9]{1,9})_Step-[0-9]{1,15}\.ckpt", name) for name in names]
    if None in found:
        wrong = names[found.index(None)]
        raise PackageError(f"{folder.name} names a checkpoint {brief(wrong)}; names are like 12_Step-34567.ckpt.")
    return {match[0]: match[1] for match in found if match is not None}


def _restored(index: bytes, data: bytes) -> bytes:
    """The weights of TensorFlow's checkpoint as constants of a graph that has nothing else."""
    graph = GraphWriter()
    for name, tensor in read_bundle(index, data).items():
        if name.endswith(_WEIGHTS) and tensor.dtype == np.float32:
            graph.constant(name, tensor.astype(np.float32, copy=False))
    return graph.serialized()


# Folders and archives


def _is_training(found: _Paths) -> bool:
    return any(path.name in _MARKS or ".ckpt." in path.name for path in found)


def _rooted(name: str, found: _Paths) -> dict[str, Path]:
    """The same by their paths from the training's root: where model_metadata.json lies, or the folder model with it."""
    described = (path.parent for path in found if path.name == METADATA)
    roots = {place.parent if place.name == "model" else place for place in described}
    if not roots:
        raise PackageError(f"{name} has no {METADATA}, which says what the model senses and does.")
    depth = min(len(root.parts) for root in roots)
    root, *others = sorted(root for root in roots if len(root.parts) == depth)
    if others:
        shown = ", ".join(brief(str(each)) for each in (root, *others)[:4])
        raise PackageError(f"{name} holds several trainings ({shown}): take one of them.")
    return {str(path.relative_to(root)): file for path, file in found.items() if path.is_relative_to(root)}


@contextmanager
def _opened(source: Path) -> Iterator[_Paths]:
    """The files that may matter. Raises PackageError where there is a link, or a way out of the folder."""
    if source.is_dir():
        yield _walk(source)
        return
    if not source.exists():
        raise PackageError(f"There is no file {source}.")
    with tempfile.TemporaryDirectory() as room:
        files = _Archive(Path(room))
        read_archive(source, files.take)
        yield files.found


def _wanted(name: str) -> bool:
    return name in _MARKS or name == METADATA or name.endswith((".pb", ".ckpt.index", f".ckpt.{DATA}"))


def _walk(source: Path) -> _Paths:
    found: _Paths = {}
    count = 0
    for place, folders, names in os.walk(source):
        count += len(names)
        _refuse_many(count)
        for path in (Path(place, name) for name in (*folders, *names)):
            if path.is_symlink():
                raise PackageError(f"{path.name!r} is a link; a training holds plain files only.")
            if _wanted(path.name) and path.is_file():
                found[PurePosixPath(path.relative_to(source).as_posix())] = path
    return found


class _Archive:
    """Its files that may matter, on their way into a folder under names of our own."""

    def __init__(self, room: Path) -> None:
        self.room = room
        self.found: _Paths = {}
        self.count = 0

    def take(self, name: str, size: int, content: IO[bytes] | None) -> None:
        path = PurePosixPath(name)
        self.count += 1
        _refuse_many(self.count)
        if path.is_absolute() or ".." in path.parts or "\0" in name:
            raise PackageError(f"The archive names a file outside its own folder ({brief(name)}); it is refused whole.")
        if content is None or not _wanted(path.name):
            return
        if path in self.found:
            raise PackageError(f"The archive holds {brief(name)} twice.")
        self.found[path] = self.room / str(self.count)
        with self.found[path].open("xb") as file:
            shutil.copyfileobj(content, file, 1 << 20)


def _refuse_many(files: int) -> None:
    if files > MOST_FILES:
        raise PackageError(f"There are more than {MOST_FILES} files: name the folder of one training.")
