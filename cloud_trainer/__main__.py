"""python -m cloud_trainer: policies are trained here, on the simulator, evaluated, and packed for the car."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

from cloud_trainer import draw
from cloud_trainer.evaluate import Result, evaluate, evaluate_package
from cloud_trainer.reward import validate_command
from inference.package import PackageError, name_of, unpack
from sim_stub import dynamics
from sim_stub.dynamics import Profile, profile_for
from sim_stub.randomisation import PRESETS, Randomisation, read_randomisation
from sim_stub.rules import RaceType, Rules, RulesError, read_rules, read_setting
from sim_stub.track import Track, TrackError, load

LONGEST: Final = 20 * 60
"""Simulated seconds after which a trial ends, finished or not: the manual's cap."""
PHYSICS: Final = {"ideal": dynamics.IDEAL, "deepracer": dynamics.DEEPRACER}
BAD: Final = (RulesError, TrackError, PackageError)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message.rstrip('.')}.\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Bad arguments end it with one sentence on stderr and status 2; 1 means the disk refused."""
    parser = _Parser(prog="python -m cloud_trainer", description=__doc__)
    tasks = parser.add_subparsers(required=True, metavar="TASK")
    _add_evaluate(tasks.add_parser("evaluate", help="let models drive, and compare what came of it"))
    _add_imitate(tasks.add_parser("imitate", help="teach a small network to drive by camera, in minutes"))
    task = tasks.add_parser("validate", help="check a reward function")
    task.add_argument("file", type=Path)
    task.set_defaults(run=lambda options: validate_command(options.file))
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except BAD as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{parser.prog}: {error.filename or 'the disk'}: {error.strerror or error}.", file=sys.stderr)
        return 1


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


def _add_imitate(task: argparse.ArgumentParser) -> None:
    task.add_argument("--out", type=partial(_file, suffix=".tar.gz"), default=Path("imitated.tar.gz"))
    task.add_argument("--track", default="reinvent_base", help="the main track: a name, or a .npy route")
    task.add_argument("--seed", type=partial(_count, least=0), default=1, help="of all chance (default 1)")
    task.add_argument("--rounds", type=partial(_count, least=1), default=8, help="of driving and learning (default 8)")
    task.add_argument(
        "--cars", type=partial(_count, least=1), default=8, help="in each of a round's 8 worlds (default 8)"
    )
    task.set_defaults(run=_imitate)


def _imitate(options: argparse.Namespace) -> int:
    # Only here, so that everything else starts without PyTorch's seconds.
    from cloud_trainer.export import describe, freeze, write_package
    from cloud_trainer.imitate import ACTIONS, RATE, Plan, driver, imitate
    from cloud_trainer.network import COMPACT

    track: Track = load(options.track)
    if not track.closed:
        raise TrackError(f"argument --track: {options.track} is open, and laps need a closed track.")
    begun = time.monotonic()
    plan = Plan(track, options.seed, options.rounds, options.cars)
    network = imitate(plan, lambda line: print(f"{line} ({time.monotonic() - begun:.0f} s)", flush=True))
    rules = Rules(laps=3, rate=RATE)
    print(draw.table([evaluate("sample", driver(network), track, rules, dynamics.DEEPRACER, 10)]))
    write_package(options.out, freeze(network), describe(COMPACT, ACTIONS))
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.2f} MB after {time.monotonic() - begun:.0f} s")
    return 0


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
