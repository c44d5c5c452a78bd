"""Reward functions: what is wrong with a user's file, and four of our own. They run in cloud_trainer/worker.py."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cloud_trainer.diagnose import Diagnostic, check, decode
from cloud_trainer.trial import TRIAL_LENGTH, TRIAL_ROUTE, trial_rows
from cloud_trainer.worker import MEMORY, WAYS, Box, RewardError, RewardWorker, Rows, choose

__all__ = (
    "EXAMPLES",
    "WAYS",
    "Diagnostic",
    "RewardError",
    "RewardWorker",
    "Rows",
    "Validator",
    "example",
    "validate",
    "validate_command",
)

EXAMPLES: Final = ("centre_line", "inside_borders", "no_zigzag", "avoid_objects")
TRIAL_SECONDS: Final = 0.5
LOADED: Final = (
    *("scipy.stats", "scipy.interpolate", "scipy.optimize", "scipy.signal", "scipy.spatial"),
    *("shapely.geometry", "shapely.ops"),
)
"""All that is slow to import (two seconds), for a box that stands ready."""
_EXAMPLES: Final = Path(__file__).with_name("rewards")


def validate(source: str, *, trust: bool = False) -> list[Diagnostic]:
    """What is wrong with a user's file, in the order of its lines; empty if nothing was found.

    What can be told without running it comes first; only a file that passes is tried in a box, which takes a second or
    two if it imports much of scipy. There are objects in the trial: a function that needs them is no worse for it.
    Without any it may raise, but must not return nonsense.
    """
    return check(source) or _try(source, trust, None)


class Validator:
    """Does what validate() does, with a box that stands ready: the answer comes at once whatever the file imports.

    For a service: it holds a process of some 250 MB, made anew in the background for each file that was tried.
    """

    def __init__(self, *, trust: bool = False) -> None:
        self._trust = trust
        self._ready: Box | None = None
        self._prepare()

    def __call__(self, source: str) -> list[Diagnostic]:
        found = check(source)
        if found:
            return found
        try:
            return _try(source, self._trust, self._ready)
        finally:
            self._prepare()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ready is not None:
            self._ready.close()

    def _prepare(self) -> None:
        self._ready = None
        with contextlib.suppress(RewardError):  # the next trial will say it
            self._ready = Box(choose(WAYS, self._trust), MEMORY, LOADED)


def _try(source: str, trust: bool, box: Box | None) -> list[Diagnostic]:
    try:
        with RewardWorker(
            source, TRIAL_ROUTE, TRIAL_LENGTH, objects=2, seconds=TRIAL_SECONDS, trust=trust, box=box
        ) as worker:
            worker(trial_rows(2))
            try:
                worker.rewards(trial_rows(0), 0)
            except RewardError as error:
                if " it returned " in str(error):
                    raise
    except RewardError as error:
        return [Diagnostic(error.line or 1, 1, str(error).replace(f" in line {error.line}", ""))]
    return []


def validate_command(path: Path) -> int:
    """Print what is wrong with a file, a line each, and return 2; or one line that says it is fine, and return 0."""
    try:
        source = decode(path.read_bytes())
    except OSError as error:
        print(f"{path} cannot be read: {error.strerror}.", file=sys.stderr)
        return 2
    found = [source] if isinstance(source, Diagnostic) else validate(source)
    for diagnostic in found:
        print(f"{path}:{diagnostic.line}:{diagnostic.column}: {diagnostic.message}")
    if found:
        return 2
    print(f"{path} is fine; it was tried in a box made by {choose(WAYS, trust=False).way}.")
    return 0


def example(name: str) -> str:
    """The source of one of EXAMPLES. Raises KeyError for another name."""
    if name not in EXAMPLES:
        raise KeyError(name)
    return (_EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
