"""Logs: what the daemon has said lately, and what the system's journal holds."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import shutil
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

KEPT: Final = 2000
JOURNAL_PATIENCE: Final = 10.0
LONGEST_LINE: Final = 8 << 10
SYSLOG_LEVELS: Final = (50, 50, 50, 40, 30, 20, 20, 10)
"""Of logging, by the journal's priority 0..7."""
TOO_LONG: Final = "This entry is too long to be shown here: see journalctl."
NO_JOURNAL: Final = "This machine keeps no system journal that hotlap may read."


@dataclass(frozen=True, slots=True)
class Entry:
    """`when` is seconds since 1970, `level` that of logging, `source` who said it."""

    when: float
    level: int
    source: str
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """Entries, oldest first; `cursor` is where the next page begins; `reason` says why there can be none."""

    entries: tuple[Entry, ...]
    cursor: str
    reason: str | None = None


class DaemonLog(logging.Handler):
    """The latest KEPT records of this process."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: deque[tuple[int, Entry]] = deque(maxlen=KEPT)
        self._numbers = itertools.count(1)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()[:LONGEST_LINE]
        except (TypeError, ValueError):
            text = str(record.msg)[:LONGEST_LINE]
        self._kept.append((next(self._numbers), Entry(record.created, record.levelno, record.name, text)))

    async def read(self, after: str, level: int, text: str, limit: int) -> Page:
        """The newest `limit` entries of that level or above that hold `text`, said after the cursor."""
        kept = list(self._kept)
        begin = int(after) if after.isdecimal() and len(after) < 20 else 0
        if not kept or begin > kept[-1][0]:  # a cursor of before a restart
            begin = 0
        entries = _matching((entry for number, entry in kept if number > begin), level, text)
        return Page(tuple(entries[-limit:]), str(kept[-1][0]) if kept else after)


class Journal:
    """The system's journal, by journalctl."""

    async def read(self, after: str, level: int, text: str, limit: int) -> Page:
        """As DaemonLog.read; a text is looked for among the newest thousand entries."""
        program = shutil.which("journalctl")
        if program is None:
            return Page((), "", NO_JOURNAL)
        lines = limit if not text else 1000
        command = [program, "--output=json", "--no-pager", "--quiet", f"--lines={lines}"]
        command += [f"--priority={max(place for place, each in enumerate(SYSLOG_LEVELS) if each >= level)}"]
        command += [f"--after-cursor={after}"] if after else []
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(JOURNAL_PATIENCE):
                said, _ = await process.communicate()
        except TimeoutError:
            return Page((), after, "The system's journal did not answer in time; try again.")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode and after:
            return Page((), "", "The journal has moved on; it is read anew.")
        if process.returncode:
            return Page((), "", NO_JOURNAL)
        found, cursor = [], after
        for line in said.splitlines():
            fields = json.loads(line)
            cursor = str(fields.get("__CURSOR", cursor))
            found.append(_entry(fields))
        reason = None if found or after else NO_JOURNAL
        return Page(tuple(_matching(found, level, text)[-limit:]), cursor, reason)


def _entry(fields: dict[str, object]) -> Entry:
    priority, message = str(fields.get("PRIORITY", "6")), fields.get("MESSAGE", "")
    if message is None:  # journalctl leaves out what is over 4096 bytes, as a traceback may be
        message = TOO_LONG
    if isinstance(message, list):  # bytes that are no text come as numbers
        message = bytes(number & 255 for number in message if isinstance(number, int)).decode(errors="replace")
    source = fields.get("SYSLOG_IDENTIFIER") or fields.get("_COMM") or ""
    when = int(str(fields.get("__REALTIME_TIMESTAMP", 0))) / 1e6
    level = SYSLOG_LEVELS[int(priority)] if priority in set("01234567") else logging.INFO
    return Entry(when, level, str(source), str(message)[:LONGEST_LINE])


def _matching(entries: Iterable[Entry], level: int, text: str) -> list[Entry]:
    text = text.casefold()
    return [entry for entry in entries if entry.level >= level and text in f"{entry.source} {entry.text}".casefold()]
