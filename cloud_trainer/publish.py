"""What a training leaves for people and their tools: the community's layout of files, graphs, a package, a film."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from cloud_trainer import draw, params, records
from cloud_trainer.evaluate import Result, evaluate_package
from cloud_trainer.export import freeze, write_package
from cloud_trainer.folder import Snapshot, model_files
from cloud_trainer.job import Job
from cloud_trainer.records import EpisodeRecord
from cloud_trainer.rollout import Episode
from drivers.disk import write_atomically
from inference.package import name_of, unpack

METRICS: Final = ("metrics/TrainingMetrics.json", "metrics/training/training-1.json")
"""Where the community's tools, and the manual, look for the same file."""
EVALUATION: Final = "evaluation"


def settle(folder: Path, job: Job) -> None:
    """What is known of a job before it has begun. Raises OSError."""
    _write(
        folder,
        {
            "reward_function.py": job.reward.encode(),
            "model_metadata.json": (json.dumps(job.agent.metadata(), indent=2) + "\n").encode(),
            "training_params.yaml": params.training_params_yaml(job),
            "ip/hyperparameters.json": params.hyperparameters_json(job),
        },
    )


def publish(
    folder: Path,
    job: Job,
    told: Sequence[EpisodeRecord],
    evaluated: Sequence[Episode],
    last: Snapshot,
    best: Snapshot,
    traces: Mapping[str, bytes],
) -> Path:
    """Bring a training's folder up to date; returns its car package, which holds the best policy.

    `told` of all episodes so far, `evaluated` the latest evaluation's; `traces` are files by their places in the
    layout. Raises OSError.
    """
    metrics = records.metrics_json(told, job.evaluation.metric)
    graphs = {"reward_graph.png": draw.png(draw.reward_figure(told)), "reward_graph.csv": records.reward_graph(told)}
    if evaluated:
        graphs["evaluation_paths.png"] = draw.png(draw.episodes_figure(evaluated))
    model = model_files(job.agent, last, best)
    _write(folder, dict.fromkeys(METRICS, metrics) | graphs | dict(traces) | model)
    for path in (folder / "model").glob("*[0-9]*"):  # checkpoints that are neither the last nor the best any more
        if f"model/{path.name}" not in model:
            path.unlink()
    package = folder / f"{name_of(Path(job.name))}.tar.gz"
    write_package(package, freeze(best.policy), job.agent.metadata())
    return package


def show(folder: Path, job: Job, package: Path, *, video: bool = False) -> list[Result]:
    """Let a package drive on each of its job's tracks by the car's own code; keeps figures, paths and a film.

    Raises PackageError, OSError.
    """
    rules = dataclasses.replace(job.rules, laps=job.evaluation.laps, off_track_penalty=5.0, number_of_resets=100)
    place = folder / EVALUATION
    place.mkdir(exist_ok=True)
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as room:
        model = unpack(package, Path(room), job.name)
        for track in job.roads():
            with contextlib.ExitStack() as stack:
                film = stack.enter_context(draw.Film(place / f"{track.name}.mp4", track, rules.rate)) if video else None
                run = partial(evaluate_package, model, track, rules, job.evaluation.trials, watch=film)
                results.append(run(randomisation=job.randomisation, seed=job.seed))
            figures = records.evaluation_json([trial.run for trial in results[-1].trials])
            _write(folder, {f"metrics/evaluation/evaluation-{track.name}.json": figures})
    _write(folder, {f"{EVALUATION}/paths.png": draw.png(draw.paths_figure(results))})
    return results


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
