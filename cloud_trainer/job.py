"""A job: everything that a training depends on, read from plain values and checked before anything starts.

JobError (RulesError)   what was asked for cannot be trained; one sentence names the key and what it may be
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, TypeVar

from cloud_trainer.agent import Agent, Algorithm
from cloud_trainer.diagnose import Diagnostic, decode
from cloud_trainer.network import ARCHITECTURES
from cloud_trainer.reward import EXAMPLES, example, validate
from inference.package import PackageError, Sensor, parse_metadata
from sim_stub import track as tracks
from sim_stub.randomisation import PRESETS, Randomisation, read_randomisation
from sim_stub.rules import LONG, Rules, RulesError, read_rules, refuse_unknown, shown
from sim_stub.track import Track

METRICS: Final = ("progress", "reward", "laptime")
LARGEST_FILE: Final = 1 << 20
FILES: Final = frozenset(("track", "reward", "start", "hyperparameters"))
"""Settings that may name a file."""
NAMES: Final = {"ppo": Algorithm.PPO, "sac": Algorithm.SAC}
"""What people write for an algorithm, beside its name in the metadata."""


class JobError(RulesError):
    pass


def _check_ranges(settings: Any, ranges: Mapping[str, tuple[float, float]]) -> None:
    for name, (low, high) in ranges.items():
        value = getattr(settings, name)
        whole = type(next(entry.default for entry in fields(settings) if entry.name == name)) is int
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            raise JobError(f"{name} must be a{' whole' if whole else ''} number, not {value!r}.")
        if not low <= value <= high:
            raise JobError(f"{name} must lie in {low:g}..{high:g}, not {shown(value)}.")


CHOICES: Final[dict[str, tuple[Any, ...]]] = {
    "batch_size": (32, 64, 128, 256, 512),
    "stack_size": (1,),
    "exploration_type": ("categorical", "e-greedy"),
    "loss_type": ("huber", "mean squared error"),
}
RANGES: Final[dict[str, tuple[float, float]]] = {
    "num_epochs": (3, 10),
    "lr": (1e-8, 1e-3),
    "e_greedy_value": (0, 1),
    "epsilon_steps": (1, 1e9),
    "beta_entropy": (0, 1),
    "discount_factor": (0, 1),
    "num_episodes_between_training": (1, 100),
    "term_cond_max_episodes": (1, 1e9),
    "term_cond_avg_score": (-1e9, 1e9),
    "sac_alpha": (0, 1),
}
"""What each number may be, ends included. (The manual starts num_episodes_between_training at 5; SAC learns with 1.)"""


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """By the names, ranges and defaults of the manual and of the community's hyperparameters.json. Raises JobError.

    `term_cond_max_episodes` and `term_cond_avg_score` (mean reward of an iteration's episodes) end a training.
    """

    batch_size: int = 64
    num_epochs: int = 3
    stack_size: int = 1
    lr: float = 0.0003
    exploration_type: str = "categorical"
    e_greedy_value: float = 0.05
    epsilon_steps: int = 10_000
    beta_entropy: float = 0.01
    discount_factor: float = 0.999
    loss_type: str = "huber"
    num_episodes_between_training: int = 20
    term_cond_max_episodes: int = 100_000
    term_cond_avg_score: float = 100_000.0
    sac_alpha: float = 0.2

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or value not in allowed:
                shown = ", ".join(str(each) for each in allowed)
                raise JobError(f"{name} must be {'one of ' if len(allowed) > 1 else ''}{shown}, not {value!r}.")
        _check_ranges(self, RANGES)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How the policy is tried between iterations, without exploration. Raises JobError.

    After every `every` iterations `trials` cars start spread over the track and drive `laps` each, until their first
    mistake. `metric` chooses the best checkpoint: progress, reward (the larger) or laptime (the smaller).
    """

    every: int = 1
    trials: int = 5
    laps: int = 3
    metric: str = "progress"

    def __post_init__(self) -> None:
        _check_ranges(self, {"every": (1, 1000), "trials": (1, 100), "laps": (1, 100)})
        if self.metric not in METRICS:
            raise JobError(f"metric must be one of {', '.join(METRICS)}, not {self.metric!r}.")


@dataclass(frozen=True, slots=True)
class Stop:
    """When a training is over: after `minutes` of learning, after `steps` of the simulator, or once `clean_evaluations`
    in a row saw every trial finish all its laps without a mistake. 0 is never. Raises JobError."""

    minutes: float = 60.0
    steps: int = 0
    clean_evaluations: int = 10

    def __post_init__(self) -> None:
        _check_ranges(self, {"minutes": (0, 60 * 24 * 365), "steps": (0, 1e12), "clean_evaluations": (0, 1e6)})


DEFAULT_AGENT: Final = Agent()
TRAINING_RULES: Final = Rules(change_start_position=True)


@dataclass(frozen=True, slots=True)
class Job:
    """`reward` is the source of the reward function; `tracks` are names or files, which take the episodes in turn.

    `start`: a car package, or the folder of another training, whose policy is trained further.
    """

    name: str = "model"
    tracks: tuple[str, ...] = ("reinvent_base",)
    reward: str = field(default_factory=lambda: example(EXAMPLES[0]))
    agent: Agent = DEFAULT_AGENT
    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)
    rules: Rules = TRAINING_RULES
    randomisation: Randomisation = PRESETS["none"]
    evaluation: Evaluation = field(default_factory=Evaluation)
    stop: Stop = field(default_factory=Stop)
    seed: int = 1
    start: str | None = None

    def __post_init__(self) -> None:
        """Raises JobError, RulesError or TrackError."""
        if not self.tracks:
            raise JobError("track must name at least one track.")
        if not 0 <= self.seed < 1 << 32:
            raise JobError(f"seed must lie in 0..{(1 << 32) - 1}, not {self.seed}.")
        if self.rules.number_of_resets:
            raise JobError("number_of_resets must be 0: in training the first mistake ends an episode.")
        if self.rules.laps != 1:
            raise JobError("laps must be 1 among the rules: in training an episode ends with its lap.")
        for track in self.roads():
            self.rules.check(track)
            if not track.closed and self.evaluation.laps > 1:
                raise JobError(f"laps must be 1, not {self.evaluation.laps}: {track.title} is an open track.")
        if self.agent.head == "discrete" and self.agent.algorithm is Algorithm.SAC:
            raise JobError("actions must be ranges, not a list: SAC learns continuous actions only.")
        if self.hyperparameters.num_episodes_between_training < len(self.tracks):
            raise JobError("num_episodes_between_training must not be smaller than the number of tracks.")

    def roads(self) -> list[Track]:
        return [tracks.load(name) for name in self.tracks]

    def document(self) -> dict[str, Any]:
        """Plain values, for JSON, that `read_job` makes the same job of."""
        agent = self.agent
        space = agent.metadata()["action_space"]
        chance = dataclasses.asdict(self.randomisation)
        return {
            "name": self.name,
            "track": list(self.tracks),
            "reward_function": self.reward,
            "seed": self.seed,
            "randomisation": chance,
            **({"start": self.start} if self.start else {}),
            "agent": {
                "sensors": [sensor.value for sensor in agent.sensors],
                "network": agent.network,
                "algorithm": agent.algorithm.value,
                "version": agent.version,
                "actions": space,
                **({"lidar_config": dataclasses.asdict(agent.lidar)} if agent.lidar else {}),
            },
            "hyperparameters": dataclasses.asdict(self.hyperparameters),
            "rules": dataclasses.asdict(self.rules),
            "evaluation": dataclasses.asdict(self.evaluation),
            "stop": dataclasses.asdict(self.stop),
        }


def merged(values: Mapping[str, Any], *more: Mapping[str, Any]) -> dict[str, Any]:
    """Settings upon settings, the last the strongest; tables are merged key by key."""
    whole = dict(values)
    for layer in more:
        if "reward" in layer:
            whole.pop("reward_function", None)
        for key, value in layer.items():
            old = whole.get(key)
            whole[key] = {**old, **value} if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return whole


def load_values(path: Path) -> dict[str, Any]:
    """The settings in a TOML file; the files that they name are looked for beside it. Raises JobError."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise JobError(f"{path} is larger than {LARGEST_FILE} bytes.")
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise JobError(f"{path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise JobError(f"{path} is no TOML: {error}.") from error

    def found(value: Any) -> Any:
        if isinstance(value, list):
            return [found(each) for each in value]
        return (
            str((path.parent / value).absolute())
            if isinstance(value, str) and (path.parent / value).exists()
            else value
        )

    for key in FILES & values.keys():
        values[key] = found(values[key])
    if isinstance(values.get("agent"), dict) and "metadata" in values["agent"]:
        values["agent"]["metadata"] = found(values["agent"]["metadata"])
    return values


def read_job(values: Mapping[str, Any]) -> Job:
    """The job that plain values ask for. Raises JobError and its kin.

    Its agent may be told as a stock model_metadata.json (`metadata`: a file), its hyperparameters as a JSON file.
    """
    known = {"track", "reward_function", *(entry.name for entry in fields(Job))} - {"tracks"}
    refuse_unknown("setting", values, known)
    plain: dict[str, Any] = {}
    for key in ("name", "start"):
        if key in values:
            if not isinstance(values[key], str) or not values[key].strip():
                raise JobError(f"{key} must be text, not {values[key]!r}.")
            plain[key] = values[key]
    if "seed" in values:
        if isinstance(values["seed"], bool) or not isinstance(values["seed"], int):
            raise JobError(f"seed must be a whole number, not {values['seed']!r}.")
        plain["seed"] = values["seed"]
    if "track" in values:
        plain["tracks"] = _tracks(values["track"])
    if "agent" in values:
        plain["agent"] = read_agent(_table("agent", values["agent"]))
    if "hyperparameters" in values:
        plain["hyperparameters"] = read_hyperparameters(values["hyperparameters"])
    if "randomisation" in values:
        plain["randomisation"] = read_randomisation(values["randomisation"])
    if "rules" in values:
        plain["rules"] = read_rules({"change_start_position": True} | _table("rules", values["rules"]))
    if "evaluation" in values:
        plain["evaluation"] = _read(Evaluation, _table("evaluation", values["evaluation"]), "setting of the evaluation")
    if "stop" in values:
        plain["stop"] = _read(Stop, _table("stop", values["stop"]), "condition to stop")
    plain["reward"] = _reward(values)
    return Job(**plain)


def read_hyperparameters(values: object) -> Hyperparameters:
    """Of a mapping, or of a JSON file. Raises JobError."""
    if isinstance(values, str):
        values = _json(Path(values))
    return _read(Hyperparameters, _table("hyperparameters", values), "hyperparameter")


def read_agent(values: Mapping[str, Any]) -> Agent:
    """Of plain values: sensors, network, algorithm, version, lidar_config; actions as a list of [angle, speed] or of
    the metadata's objects, or as ranges {steering_angle = [low, high], speed = [low, high]}. Raises JobError."""
    refuse_unknown(
        "setting of the agent",
        values,
        {"metadata", "sensors", "network", "algorithm", "version", "actions", "lidar_config"},
    )
    said: dict[str, Any] = {}
    if "metadata" in values:
        said = dict(_table("metadata", _json(Path(str(values["metadata"])))))
    base = DEFAULT_AGENT
    network = values.get("network", base.network)
    if network not in ARCHITECTURES:
        raise JobError(f"network must be one of {', '.join(ARCHITECTURES)}, not {network!r}.")
    if "algorithm" in values:
        name = values["algorithm"]
        algorithm = NAMES.get(str(name).lower(), name)
        if algorithm not in set(Algorithm):
            raise JobError(f"algorithm must be one of {', '.join(NAMES)}, not {name!r}.")
        said["training_algorithm"] = Algorithm(algorithm).value
    if "sensors" in values:
        said["sensor"] = values["sensors"]
    for key in ("version", "lidar_config"):
        if key in values:
            said[key] = values[key]
    if "actions" in values:
        said |= _actions(values["actions"])
    elif "action_space" not in said:
        default = dataclasses.replace(base, algorithm=Algorithm(said.get("training_algorithm", base.algorithm)))
        said |= {key: default.metadata()[key] for key in ("action_space", "action_space_type")}
        if default.algorithm is Algorithm.SAC:
            said |= _actions({"steering_angle": [-30.0, 30.0], "speed": [0.8, 1.5]})
    said.setdefault("sensor", [Sensor.FRONT_FACING_CAMERA.value])
    said.setdefault("version", base.version)
    said.setdefault("training_algorithm", base.algorithm.value)
    said["neural_network"] = ARCHITECTURES[network].stock_name
    try:
        read = parse_metadata(json.dumps(said).encode())
    except (PackageError, TypeError, ValueError) as error:
        raise JobError(str(error).replace("model_metadata.json", "agent")) from error
    _check_space(read.action_space)
    lidar = read.lidar if "lidar_config" in said else None
    agent = Agent(read.sensors, read.action_space, network, Algorithm(read.algorithm), read.version, lidar)
    if not any(not sensor.is_lidar for sensor in agent.sensors):
        raise JobError("agent: sensors must have a camera among them.")
    return agent


def _check_space(space: Any) -> None:
    """The manual's ranges."""
    if hasattr(space, "choices"):
        if not 2 <= len(space.choices) <= 64:
            raise JobError(f"actions must be 2..64 of them, not {len(space.choices)}.")
        angles, speeds = zip(*space.choices, strict=True)
    else:
        angles, speeds = space.steering_deg, space.speed
    for name, numbers, low, high in (("steering_angle", angles, -30, 30), ("speed", speeds, 0.1, 4)):
        for number in numbers:
            if not low <= number <= high:
                raise JobError(f"{name} of an action must lie in {low}..{high}, not {number:g}.")


def _actions(value: Any) -> dict[str, Any]:
    """The metadata's two keys."""
    if isinstance(value, list):
        rows = [
            {"steering_angle": row[0], "speed": row[1]} if isinstance(row, list | tuple) and len(row) == 2 else row
            for row in value
        ]
        return {"action_space": rows, "action_space_type": "discrete"}
    if isinstance(value, Mapping):
        refuse_unknown("range of actions", value, {"steering_angle", "speed"})
        ranges = {
            key: {"low": ends[0], "high": ends[1]} if isinstance(ends, list | tuple) and len(ends) == 2 else ends
            for key, ends in value.items()
        }
        return {"action_space": ranges, "action_space_type": "continuous"}
    raise JobError(f"actions must be a list of [angle, speed], or ranges of steering_angle and speed, not {value!r}.")


def _tracks(value: object) -> tuple[str, ...]:
    named = [value] if isinstance(value, str) else value
    if not isinstance(named, list | tuple) or not all(isinstance(name, str) for name in named):
        raise JobError(f"track must be a name or a list of names, not {value!r}.")
    return tuple(str(Path(name).absolute()) if Path(name).is_file() else name for name in named)


def _reward(values: Mapping[str, Any]) -> str:
    """The source of the reward function, found to be sound. Raises JobError with the line."""
    if "reward_function" in values:
        return str(values["reward_function"])
    name = values.get("reward", EXAMPLES[0])
    if name in EXAMPLES:
        return example(name)
    if not isinstance(name, str) or not Path(name).is_file():
        raise JobError(f"reward must be a file, or one of {', '.join(EXAMPLES)}, not {name!r}.")
    source = decode(Path(name).read_bytes())
    found = [source] if isinstance(source, Diagnostic) else validate(source)
    if found:
        first = found[0]
        raise JobError(f"{name}:{first.line}:{first.column}: {first.message}")
    assert isinstance(source, str)
    return source


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise JobError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise JobError(f"{path} is no JSON: {error}.") from error


def _table(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise JobError(f"{name} must be a table, not {value!r}.")
    return dict(value)


Kind = TypeVar("Kind", Hyperparameters, Evaluation, Stop)


def _read(kind: type[Kind], values: dict[str, Any], what: str) -> Kind:
    defaults = {entry.name: entry.default for entry in fields(kind)}
    refuse_unknown(what, values, defaults)
    for key, value in values.items():
        # JSON and people write 1 for 1.0, and the community's files 5.0 for 5.
        if isinstance(defaults[key], float) and type(value) is int and abs(value) < LONG:
            values[key] = float(value)
        elif type(defaults[key]) is int and isinstance(value, float) and value.is_integer():
            values[key] = int(value)
    return kind(**values)
