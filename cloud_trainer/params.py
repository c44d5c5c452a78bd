"""A job in the original's files, hyperparameters.json and training_params.yaml, and out of them again."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, fields
from typing import Any, Final, TypeAlias

from cloud_trainer.agent import Algorithm
from cloud_trainer.job import Evaluation, Job, JobError
from sim_stub import track as tracks
from sim_stub.randomisation import Randomisation
from sim_stub.rules import RaceType, Rules, RulesError, read_rules


def hyperparameters_json(job: Job) -> bytes:
    """hyperparameters.json."""
    values = asdict(job.hyperparameters)
    if job.agent.algorithm is not Algorithm.SAC:
        del values["sac_alpha"]
    return json.dumps(values, indent=2, sort_keys=True).encode()


LARGEST_PARAMS: Final = 1 << 16
"""Characters."""
ALWAYS: Final = (
    *("race_type", "reverse_dir", "alternate_driving_direction", "change_start_position"),
    *("round_robin_advance_dist", "start_position_offset"),
)
EVENT: Final[dict[RaceType, tuple[str, ...]]] = {
    RaceType.TIME_TRIAL: (),
    RaceType.OBJECT_AVOIDANCE: (
        *("number_of_obstacles", "min_distance_between_obstacles", "randomize_obstacle_locations"),
        "object_positions",
    ),
    RaceType.HEAD_TO_BOT: (
        *("number_of_bot_cars", "min_distance_between_bot_cars", "randomize_bot_car_locations", "bot_car_speed"),
        *("is_lane_change", "lower_lane_change_time", "upper_lane_change_time", "lane_change_distance"),
        "penalty_seconds",
    ),
}
"""Rules that training_params.yaml tells, by their names in capitals: in every race, and in each kind of it."""
DEFAULTS: Final[dict[str, object]] = {field.name: field.default for field in fields(Rules)}
_Said: TypeAlias = dict[str, str | list[str]]


def training_params_yaml(job: Job) -> bytes:
    """training_params.yaml, whose paths are relative to the training's folder."""
    rules, roads = job.rules, [road.name for road in job.roads()]
    said: _Said = {
        "JOB_TYPE": "TRAINING",
        "NUM_WORKERS": "1",
        "WORLD_NAME": roads if len(roads) > 1 else roads[0],
        "METRICS_S3_BUCKET": ".",
        "METRICS_S3_OBJECT_KEY": "metrics/TrainingMetrics.json",
        "MODEL_METADATA_FILE_S3_KEY": "model_metadata.json",
        "REWARD_FILE_S3_KEY": "reward_function.py",
        "SAGEMAKER_SHARED_S3_BUCKET": ".",
        "SAGEMAKER_SHARED_S3_PREFIX": ".",
        "SIMTRACE_S3_BUCKET": ".",
        "SIMTRACE_S3_PREFIX": ".",
        "BODY_SHELL_TYPE": "deepracer",
        "CAR_COLOR": "Black",
        **dict.fromkeys(("CAR_NAME", "DISPLAY_NAME", "RACER_NAME"), job.name),
        "ENABLE_DOMAIN_RANDOMIZATION": _text(job.randomisation != Randomisation()),
        "MIN_EVAL_TRIALS": _text(job.evaluation.trials),
        "BEST_MODEL_METRIC": job.evaluation.metric,
    }
    for name in (*ALWAYS, *EVENT[rules.race_type]):
        said[name.upper()] = _text(getattr(rules, name))
    if rules.race_type is RaceType.OBJECT_AVOIDANCE:
        said |= {"IS_OBSTACLE_BOT_CAR": "false", "OBSTACLE_TYPE": "box_obstacle"}
        del said["OBJECT_POSITIONS"]
        if rules.object_positions:
            said["NUMBER_OF_OBSTACLES"] = _text(rules.obstacles)
            said["OBJECT_POSITIONS"] = [f"{part},{lane}" for part, lane in rules.object_positions]
    lines = ["---"]
    for key, value in sorted(said.items()):
        lines += (
            [f"'{key}': {_quoted(value)}"]
            if isinstance(value, str)
            else [f"'{key}':", *(f"- {_quoted(each)}" for each in value)]
        )
    return ("\n".join(lines) + "\n").encode()


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'" if text.isprintable() else json.dumps(text)


def read_training_params(text: str) -> dict[str, Any]:
    """The values of a job's document that a stock training_params.yaml implies; what else it says is let be.

    Raises JobError.
    """
    known = {"WORLD_NAME", "TRACK_DIRECTION_CLOCKWISE", "MIN_EVAL_TRIALS", "BEST_MODEL_METRIC"}
    known |= {"ENABLE_DOMAIN_RANDOMIZATION", *(name.upper() for names in (ALWAYS, *EVENT.values()) for name in names)}
    said = {key: _value(key, lines) for key, lines in _entries(text).items() if key in known}
    said = {key: value for key, value in said.items() if value}
    worlds = said.get("WORLD_NAME")
    if not worlds:
        raise JobError("training_params.yaml must have a WORLD_NAME, the name of a track.")
    clockwise = _typed(said, "TRACK_DIRECTION_CLOCKWISE", False) if "TRACK_DIRECTION_CLOCKWISE" in said else None
    found = [_road(world, clockwise) for world in ([worlds] if isinstance(worlds, str) else worlds)]
    if len({against for _, against in found}) > 1:
        raise JobError("WORLD_NAME must not name tracks in both directions: reverse_dir holds for all.")
    values: dict[str, Any] = {"track": [name for name, _ in found], "rules": _rules(said, found[0][1])}
    evaluation: dict[str, Any] = {}
    if "MIN_EVAL_TRIALS" in said:
        evaluation["trials"] = _typed(said, "MIN_EVAL_TRIALS", 0)
    if "BEST_MODEL_METRIC" in said:
        evaluation["metric"] = _typed(said, "BEST_MODEL_METRIC", "").lower()
    Evaluation(**evaluation)
    if evaluation:
        values["evaluation"] = evaluation
    if "ENABLE_DOMAIN_RANDOMIZATION" in said:
        values["randomisation"] = "lights" if _typed(said, "ENABLE_DOMAIN_RANDOMIZATION", False) else "none"
    return values


def _rules(said: _Said, against: bool) -> dict[str, Any]:
    """The rules that are told, in a race `against` the direction of our track. Raises JobError."""
    try:
        race = read_rules({"race_type": said.get("RACE_TYPE", RaceType.TIME_TRIAL)}).race_type
        rules: dict[str, Any] = {"race_type": race}
        for name in (*ALWAYS[1:], *EVENT[race]):
            key = name.upper()
            if name == "object_positions" and key in said:
                value = said[key]
                rules[name] = [value] if isinstance(value, str) else value
            elif key in said:
                rules[name] = _typed(said, key, DEFAULTS[name])
        if against:
            rules["reverse_dir"] = not rules.get("reverse_dir", False)
        read = read_rules(rules)
    except JobError:
        raise
    except RulesError as error:
        raise JobError(str(error)) from error
    return {"race_type": str(race)} | {name: getattr(read, name) for name in rules if name != "race_type"}


def _road(world: str, clockwise: bool | None) -> tuple[str, bool]:
    """Our name of the original's world, where we have it, and whether the world runs against its direction.

    Raises JobError. The original has the same road once for each direction, told apart by the end of its name.
    """
    if not re.fullmatch(r"[\w-]{1,100}", world):
        raise JobError(f"WORLD_NAME must be the name of a track, not {world!r}.")
    stem, _, way = world.rpartition("_")
    if way in ("cw", "ccw"):
        clockwise = way == "cw"
    else:
        stem = world
    ours = next((name for name in (world, stem, f"{stem}_ccw") if name in tracks.names()), None)
    if ours is None:
        return world, False
    return ours, clockwise is not None and clockwise == tracks.load(ours).ccw


def _typed(said: _Said, key: str, like: Any) -> Any:
    """What the text says, as the kind of thing that `like` is. Raises JobError."""
    text = said[key]
    if isinstance(text, list):
        raise JobError(f"{key} must be one value, not a list of them.")
    if isinstance(like, bool):
        if text.lower() not in ("true", "false"):
            raise JobError(f"{key} must be true or false, not {text!r}.")
        return text.lower() == "true"
    try:
        return type(like)(text)
    except ValueError:
        raise JobError(f"{key} must be a{' whole' if type(like) is int else ''} number, not {text!r}.") from None


def _entries(text: str) -> dict[str, list[str]]:
    """Of each key of a flat YAML mapping what stands behind its colon, and the lines below that belong to it.

    Raises JobError.
    """
    if len(text) > LARGEST_PARAMS:
        raise JobError(f"training_params.yaml must not be longer than {LARGEST_PARAMS} characters.")
    entries: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#") or line.rstrip() in ("---", "..."):
            continue
        if line[0] in " \t-" and lines is not None:
            lines.append(line.strip())
            continue
        entry = re.fullmatch(r"""(['"]?)([\w.-]+)\1\s*:(?:\s+(.*))?""", line)
        if entry is None or entry[2] in entries:
            raise JobError(f"training_params.yaml: line {number} must be a KEY: value, each key once.")
        lines = entries[entry[2]] = [(entry[3] or "").strip()]
    return entries


def _value(key: str, lines: list[str]) -> str | list[str]:
    """A text, or the items of a list. Raises JobError."""
    first, *items = lines
    if items and all(item.startswith("-") for item in items) and not _scalar(key, first):
        return [_scalar(key, item[1:].strip()) for item in items]
    if items:
        raise JobError(f"{key} must be a text on its line, or a list of texts.")
    return _scalar(key, first)


def _scalar(key: str, text: str) -> str:
    """The text of a YAML scalar; a tag says nothing of it but that it is one. Raises JobError."""
    bare = re.sub(r"^!!(?:str|int|float|bool)\s+", "", text)
    if quoted := re.fullmatch(r"'((?:[^']|'')*)'\s*(?:#.*)?", bare):
        return quoted[1].replace("''", "'")
    if quoted := re.fullmatch(r'("(?:[^"\\]|\\.)*")\s*(?:#.*)?', bare):
        try:
            return str(json.loads(quoted[1]))
        except ValueError:
            pass
    if bare[:1] in tuple("!&*|>%@`[{}]'\"?"):
        raise JobError(f"{key} must be a plain text, not {text[:60]!r}.")
    return re.split(r"(?:^|\s)#", bare)[0].strip()
