"""python -m cloud_trainer: policies are trained here, on the simulator, evaluated, and packed for the car."""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

from cloud_trainer import draw
from cloud_trainer.evaluate import Result, evaluate_package
from cloud_trainer.reward import RewardError, validate_command
from inference.package import PackageError, name_of, unpack
from sim_stub import dynamics
from sim_stub.dynamics import Profile, profile_for
from sim_stub.randomisation import PRESETS, Randomisation, read_randomisation
from sim_stub.rules import RaceType, RulesError, read_rules, read_setting
from sim_stub.track import TrackError, load

LONGEST: Final = 20 * 60
"""Simulated seconds after which a trial ends, finished or not: the manual's cap."""
INTERRUPTED: Final = 130
"""The exit status of who was told to stop."""
PHYSICS: Final = {"ideal": dynamics.IDEAL, "deepracer": dynamics.DEEPRACER}
BAD: Final = (RulesError, TrackError, PackageError, RewardError, ArithmeticError)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message.rstrip('.')}.\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Bad arguments end it with one sentence on stderr and status 2; 1 means the disk refused."""
    parser = _Parser(prog="python -m cloud_trainer", description=__doc__)
    tasks = parser.add_subparsers(required=True, metavar="TASK")
    _add_train(tasks.add_parser("train", help="learn to drive by reward"))
    _add_evaluate(tasks.add_parser("evaluate", help="let models drive, and compare what came of it"))
    task = tasks.add_parser("validate", help="check a reward function")
    task.add_argument("file", type=Path)
    task.set_defaults(run=lambda options: validate_command(options.file))
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except BAD as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        if isinstance(error, RewardError) and error.params is not None:
            print(f"It was told: {json.dumps(error.params)}", file=sys.stderr)
        return 2
    except OSError as error:
        said = str(error) if error.errno is None else f"{error.filename or 'the disk'}: {error.strerror}."
        print(f"{parser.prog}: {said}", file=sys.stderr)
        return 1


def _add_train(task: argparse.ArgumentParser) -> None:
    task.add_argument("--config", type=Path, metavar="JOB.toml", help="see docs/training.md (default: defaults)")
    task.add_argument("--out", type=Path, metavar="FOLDER", help="for all that comes of it (default trainings/TIME)")
    task.add_argument("--from", dest="start", type=Path, metavar="MODEL", help="a package or folder to train further")
    task.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with an interrupted or finished training")
    task.add_argument("--track", action="append", help="a name or a file; several take turns")
    task.add_argument("--reward", help="a file, or the name of an example")
    task.add_argument("--race-type", help=", ".join(RaceType).lower().replace("_", "-"))
    task.add_argument("--network", help="compact, 3-layer, 5-layer or deep")
    task.add_argument("--algorithm", help="ppo or sac")
    task.add_argument("--seed", type=partial(_count, least=0), help="of all chance (default 1)")
    task.add_argument("--max-minutes", type=float, help="of training (default 60)")
    task.add_argument("--max-steps", type=partial(_count, least=1), help="of the simulator (default: any number)")
    task.add_argument(
        "--clean", type=partial(_count, least=0), help="evaluations without a mistake in a row that end it (10)"
    )
    task.add_argument("--randomise", action="append", metavar="PRESET|KIND=STRENGTH", help="as for evaluate")
    task.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of a job")
    task.add_argument("--video", action="store_true", help="film what was learned")
    task.add_argument("--trust-reward", action="store_true", help="run the reward function where nothing confines it")
    task.add_argument("--json", action="store_true", help="print the outcome as JSON")
    task.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    # Only here, so that everything else starts without PyTorch's seconds.
    from cloud_trainer import train
    from cloud_trainer.job import JobError, merged
    from cloud_trainer.progress import Bar
    from cloud_trainer.publish import show

    stop = {
        key: value
        for key, value in (
            *(("minutes", options.max_minutes), ("steps", options.max_steps)),
            ("clean_evaluations", options.clean),
        )
        if value is not None
    }
    out = options.resume or options.out or Path("trainings") / time.strftime("%Y%m%d-%H%M%S")
    if options.resume is None:
        train.begin(out, *train.plan(options.config, options.start, merged(_settings(options), {"stop": stop})))
    elif options.config or options.out or options.start or _settings(options):
        raise JobError(
            "--resume goes on with the training as it is: only --max-minutes, --max-steps and --clean change."
        )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Bar() as bar:
        outcome = train.train(out, bar, changes=stop, trust=options.trust_reward)
    first = f", the first clean evaluation after {outcome.clean[0]:.0f} s" if outcome.clean else ""
    print(
        f"{outcome.reason[:1].upper()}{outcome.reason[1:]}: {outcome.iterations} iterations, {outcome.steps} steps, "
        f"{outcome.seconds:.0f} s{first}. Everything is in {out}.",
        file=sys.stderr,
    )
    if outcome.interrupted or outcome.package is None:
        print(f"Go on with it: python -m cloud_trainer train --resume {out}", file=sys.stderr)
        return INTERRUPTED
    results = show(out, train.job_of(out), outcome.package, video=options.video)
    if options.json:
        told = dataclasses.asdict(outcome) | {"package": str(outcome.package)}
        print(json.dumps(told | {"results": [result.record() for result in results]}))
    else:
        print(draw.table(results))
        print(f"The car package: {outcome.package}")
    return 0


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """What the command line says of the job, as its file would."""
    values: dict[str, Any] = {}
    for text in options.set:
        key, value = read_setting(text)
        _merge(values, key.split("."), value)
    for keys, value in (
        (("track",), options.track),
        (("reward",), options.reward),
        (("seed",), options.seed),
        (("agent", "network"), options.network),
        (("agent", "algorithm"), options.algorithm),
        (("rules", "race_type"), options.race_type),
    ):
        if value is not None:
            _merge(values, keys, value)
    if options.randomise:
        values["randomisation"] = dataclasses.asdict(_chance(options.randomise))
    return values


def _merge(values: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, Mapping):
            raise RulesError(f"{key} is no table of settings.")
    values[keys[-1]] = value


def _add_evaluate(task: argparse.ArgumentParser) -> None:
    whole = partial(_count, least=1)
    task.add_argument("--model", type=Path, action="append", required=True, metavar="PACKAGE", help="once a model")
    task.add_argument("--track", default="reinvent_base", help="a name, a .npy route or a .toml drawing")
    task.add_argument("--laps", type=whole, default=3, help="of a trial (default 3)")
    task.add_argument("--trials", type=whole, default=3, help="default 3, side by side")
    task.add_argument("--race-type", default="TIME_TRIAL", help=", ".join(RaceType).lower().replace("_", "-"))
    task.add_argument("--resets", type=partial(_count, least=0), default=100, help="of a trial (default 100)")
    task.add_argument("--rate", type=float, default=15.0, help="decisions a second (default 15)")
    task.add_argument("--rule", action="append", default=[], metavar="KEY=VALUE", help="any rule of docs/simulator.md")
    task.add_argument(
        "--randomise",
        action="append",
        default=[],
        metavar="PRESET|KIND=STRENGTH",
        help=f"{', '.join(PRESETS)}, or a kind of chance and its strength, 0..1",
    )
    task.add_argument("--physics", help="1..6, ideal or deepracer (default: by the model's version)")
    task.add_argument("--seed", type=partial(_count, least=0), default=0, help="of all chance (default 0)")
    task.add_argument("--same-start", action="store_true", help="start every trial at the line, not round the lap")
    task.add_argument("--plot", type=partial(_file, suffix=".png"), metavar="FILE.png", help="draw the paths")
    task.add_argument("--video", type=partial(_file, suffix=".mp4"), metavar="FILE.mp4", help="film the first trial")
    task.add_argument("--json", action="store_true", help="print the figures as JSON")
    task.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    track = load(options.track)
    given = {
        "race_type": options.race_type,
        "laps": options.laps,
        "number_of_resets": options.resets,
        "off_track_penalty": 5.0,
        "rate": options.rate,
    }
    rules = read_rules(given | dict(read_setting(rule) for rule in options.rule))
    rules = dataclasses.replace(rules, max_steps=min(rules.max_steps, int(LONGEST * rules.rate)))
    rules.check(track)
    chance = _chance(options.randomise)
    profile = _physics(options.physics)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        packages = []
        for number, source in enumerate(options.model):
            home = Path(folder) / str(number) / name_of(source)
            home.mkdir(parents=True)
            packages.append(unpack(source, home))
        for package in packages:
            say = _progress(package.name)
            run = partial(
                evaluate_package,
                package,
                track,
                rules,
                options.trials,
                profile,
                spread=not options.same_start,
                randomisation=chance,
                seed=options.seed,
                progress=say,
            )
            if options.video and package is packages[0]:
                with draw.Film(options.video, track, rules.rate) as film:
                    results.append(run(watch=film))
            else:
                results.append(run())
            say(1.0)
    return _report(results, options)


def _report(results: Sequence[Result], options: argparse.Namespace) -> int:
    if options.plot:
        draw.save_figure(draw.paths_figure(results), options.plot)
    if options.json:
        print(json.dumps({"results": [result.record() for result in results]}))
    else:
        print(draw.table(results))
        for path in filter(None, (options.plot, options.video)):
            print(f"wrote {path}")
    return 0


def _progress(name: str) -> Callable[[float], None]:
    """Shows on a terminal how much is done, at most ten times a second."""
    shown = 0.0

    def show(part: float) -> None:
        nonlocal shown
        now = time.monotonic()
        if not sys.stderr.isatty() or (part < 1 and now - shown < 0.1):
            return
        shown = now
        bar = "#" * round(30 * part)
        print(f"\r{name}: [{bar:30}] {part:4.0%}", end="\n" if part >= 1 else "", file=sys.stderr, flush=True)

    return show


def _chance(settings: Sequence[str]) -> Randomisation:
    strengths: dict[str, Any] = {}
    for setting in settings:
        strengths |= dict([read_setting(setting)]) if "=" in setting else {"preset": setting}
    return read_randomisation(strengths)


def _physics(name: str | None) -> Profile | None:
    if name is None:
        return None
    if name in PHYSICS:
        return PHYSICS[name]
    if name not in ("1", "2", "3", "4", "5", "6"):
        raise RulesError(f"--physics must be 1..6, {' or '.join(PHYSICS)}, not {name!r}.")
    return profile_for(name)


def _file(text: str, suffix: str) -> Path:
    path = Path(text)
    if not path.name.endswith(suffix):
        raise argparse.ArgumentTypeError(f"{text} must end in {suffix}")
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent}")
    return path


def _count(text: str, least: int) -> int:
    if not (text.isascii() and text.isdigit() and int(text) >= least):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
