"""python -m cloud_trainer: policies are trained here, on the simulator, and packed for the car."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from cloud_trainer.evaluate import Run, evaluate
from cloud_trainer.export import describe, freeze, write_package
from cloud_trainer.imitate import ACTIONS, Plan, driver, imitate
from cloud_trainer.network import COMPACT
from sim_stub.dynamics import DEEPRACER
from sim_stub.track import TrackError, load

LAPS = 3


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message.rstrip('.')}.\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Bad arguments end it with one sentence on stderr and SystemExit 2; 1 means the disk refused."""
    parser = _Parser(prog="python -m cloud_trainer", description=__doc__)
    tasks = parser.add_subparsers(required=True, metavar="TASK")
    task = tasks.add_parser("imitate", help="teach a small network to drive by camera, in minutes")
    task.add_argument("--out", type=_package, default=Path("imitated.tar.gz"), metavar="FILE.tar.gz")
    task.add_argument("--track", default="reinvent_base", help="the main track: a name, or a .npy route")
    task.add_argument("--seed", type=partial(_count, least=0), default=1, help="of all chance (default 1)")
    task.add_argument("--rounds", type=partial(_count, least=1), default=8, help="of driving and learning (default 8)")
    task.add_argument(
        "--cars", type=partial(_count, least=1), default=8, help="in each of a round's 8 worlds (default 8)"
    )
    options = parser.parse_args(arguments)
    try:
        track = load(options.track)
    except TrackError as error:
        parser.error(str(error))
    if not track.closed:
        parser.error(f"argument --track: {options.track} is open, and laps need a closed track")
    return _imitate(Plan(track, options.seed, options.rounds, options.cars), options.out)


def _imitate(plan: Plan, out: Path) -> int:
    begun = time.monotonic()
    network = imitate(plan, lambda line: print(f"{line} ({time.monotonic() - begun:.0f} s)", flush=True))
    print(_verdict(plan.track.title, evaluate(driver(network), plan.track, DEEPRACER, laps=LAPS)))
    try:
        write_package(out, freeze(network), describe(COMPACT, ACTIONS))
    except OSError as error:
        print(f"{out} could not be written: {error}.", file=sys.stderr)
        return 1
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB after {time.monotonic() - begun:.0f} s")
    return 0


def _verdict(title: str, runs: Sequence[Run]) -> str:
    clean = sum(len(run.laps) == LAPS for run in runs)
    flying = [lap for run in runs for lap in run.laps[1:]]
    pace = f"; a flying lap takes {statistics.median(flying):.2f} s" if flying else ""
    return f"{title}: {clean} of {len(runs)} standing starts made {LAPS} clean laps{pace}"


def _package(text: str) -> Path:
    path = Path(text)
    if not path.name.endswith(".tar.gz"):
        raise argparse.ArgumentTypeError(f"{text} must end in .tar.gz")
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent}")
    return path


def _count(text: str, least: int) -> int:
    if not (text.isascii() and text.isdigit() and int(text) >= least):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
