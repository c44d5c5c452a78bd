"""How a training goes, for whoever waits for it: a bar on a terminal, a line an iteration elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cloud_trainer.train import News


class Bar:
    """Call it with the news; use `with`, so that the terminal is left as it was. It writes to stderr."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr)
        self._progress = Progress(
            TextColumn("{task.description:10}"),
            BarColumn(30),
            TextColumn("{task.percentage:3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[told]}"),
            console=self._console,
            refresh_per_second=5,
        )
        self._task = self._progress.add_task("starting", total=1.0, told="")
        self._shown = -1

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def __call__(self, news: News) -> None:
        if self._console.is_terminal:
            self._progress.update(self._task, completed=news.part, description=news.doing, told=line(news))
        elif news.iteration > max(self._shown, 0):
            print(line(news), file=sys.stderr, flush=True)
        self._shown = news.iteration


def line(news: News) -> str:
    """The figures, in words."""
    words = [f"iteration {news.iteration}", f"{news.steps} steps", f"{news.rate:.0f}/s"]
    if news.reward is not None and news.completion is not None:
        words += [f"reward {news.reward:.1f}", f"completion {news.completion:.0f} %"]
    if news.evaluation is not None:
        words.append(f"evaluated {news.evaluation:.0f} %")
        words.append(f"{news.laps} clean laps" + (f" of {news.lap:.1f} s" if news.lap is not None else ""))
    return ", ".join(words)
