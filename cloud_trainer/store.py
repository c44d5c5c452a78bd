"""What a training remembers: its mutable state in one SQLite file, its artefacts in files named by their hash.

A later PostgreSQL takes the place of `Jobs`, an object store that of `Artefacts`; nothing else knows where things lie.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from drivers.disk import sync_folder, write_atomically

DATABASE: Final = "jobs.sqlite"
ARTEFACTS: Final = "artefacts"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS job (
    id INTEGER PRIMARY KEY, document TEXT NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE TABLE IF NOT EXISTS iteration (
    job INTEGER NOT NULL REFERENCES job, number INTEGER NOT NULL, steps INTEGER NOT NULL, seconds REAL NOT NULL,
    metric REAL, clean INTEGER NOT NULL, figures TEXT NOT NULL, checkpoint TEXT NOT NULL, PRIMARY KEY (job, number)
) STRICT;
CREATE TABLE IF NOT EXISTS episode (
    job INTEGER NOT NULL REFERENCES job, iteration INTEGER NOT NULL, record TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS episode_of ON episode (job, iteration);
CREATE TABLE IF NOT EXISTS artefact (
    job INTEGER NOT NULL REFERENCES job, path TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (job, path)
) STRICT;
"""


class Status(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Iteration:
    """`steps` of the simulator and `seconds` of work since the job began; `metric` of its evaluation, if it had one,
    the larger the better; `clean`: how many evaluations in a row, up to this one, saw no mistake; `checkpoint`: a
    digest."""

    number: int
    steps: int
    seconds: float
    metric: float | None
    clean: int
    figures: Mapping[str, float]
    checkpoint: str


class Artefacts:
    """Files that never change. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def put(self, data: bytes) -> str:
        """Keeps it, and returns the digest by which it is found. When this returns, it is on the disk."""
        digest = hashlib.sha256(data).hexdigest()
        path = self.folder / digest
        if not path.is_file():
            write_atomically(path, data)
        return digest

    def get(self, digest: str) -> bytes:
        """Raises OSError also where the file is not what it was."""
        data = (self.folder / digest).read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise OSError(f"{self.folder / digest} is damaged: it is not what was written.")
        return data

    def sweep(self, keep: Collection[str]) -> None:
        """Forget all others, drafts of a killed process among them."""
        for path in self.folder.iterdir():
            if path.name not in keep:
                path.unlink(missing_ok=True)


class Jobs:
    """Jobs, their iterations, episodes and named artefacts; every change is one transaction that survives a power cut.

    Raises OSError.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.executescript(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;" + _SCHEMA
            )
        except sqlite3.Error as error:
            raise OSError(f"{path} cannot be opened: {error}.") from error
        sync_folder(path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def create(self, document: Mapping[str, Any], artefacts: Mapping[str, str]) -> int:
        """A new job with its named artefacts (path to digest); returns its number."""
        with self._change() as db:
            done = db.execute(
                "INSERT INTO job (document, status) VALUES (?, ?)", (json.dumps(document), Status.RUNNING)
            )
            job = int(done.lastrowid or 0)
            self._name(job, artefacts)
        return job

    def latest(self) -> int | None:
        """The newest job's number."""
        found = self._db.execute("SELECT max(id) FROM job").fetchone()
        return None if found[0] is None else int(found[0])

    def document(self, job: int) -> dict[str, Any]:
        found = self._db.execute("SELECT document FROM job WHERE id = ?", (job,)).fetchone()
        document: dict[str, Any] = json.loads(found[0])
        return document

    def status(self, job: int) -> tuple[Status, str]:
        """And the reason for it, where it failed or ended."""
        found = self._db.execute("SELECT status, reason FROM job WHERE id = ?", (job,)).fetchone()
        return Status(found[0]), str(found[1])

    def settle(self, job: int, status: Status, reason: str = "", document: Mapping[str, Any] | None = None) -> None:
        with self._change() as db:
            db.execute("UPDATE job SET status = ?, reason = ? WHERE id = ?", (status, reason, job))
            if document is not None:
                db.execute("UPDATE job SET document = ? WHERE id = ?", (json.dumps(document), job))

    def add(
        self, job: int, iteration: Iteration, records: Iterable[Mapping[str, Any]], artefacts: Mapping[str, str]
    ) -> None:
        """One iteration, whole: itself, the records of its episodes, and artefacts by name."""
        row = (
            *(job, iteration.number, iteration.steps, iteration.seconds, iteration.metric, iteration.clean),
            *(json.dumps(iteration.figures), iteration.checkpoint),
        )
        with self._change() as db:
            db.execute("INSERT INTO iteration VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            db.executemany(
                "INSERT INTO episode VALUES (?, ?, ?)",
                [(job, iteration.number, json.dumps(record)) for record in records],
            )
            self._name(job, artefacts)

    def iterations(self, job: int) -> list[Iteration]:
        found = self._db.execute(
            "SELECT number, steps, seconds, metric, clean, figures, checkpoint FROM iteration WHERE job = ? "
            "ORDER BY number",
            (job,),
        )
        return [
            Iteration(*row[:5], figures=json.loads(row[5]), checkpoint=row[6])  # type: ignore[misc]
            for row in found
        ]

    def records(self, job: int) -> list[dict[str, Any]]:
        """Of all episodes, in their order."""
        found = self._db.execute("SELECT record FROM episode WHERE job = ? ORDER BY rowid", (job,))
        return [json.loads(row[0]) for row in found]

    def artefacts(self, job: int) -> dict[str, str]:
        return dict(self._db.execute("SELECT path, digest FROM artefact WHERE job = ?", (job,)))

    def digests(self) -> set[str]:
        """All that any job still needs: its named artefacts, its last checkpoint and its best."""
        named = {row[0] for row in self._db.execute("SELECT digest FROM artefact")}
        for (job,) in self._db.execute("SELECT id FROM job").fetchall():
            iterations = self.iterations(job)
            named |= {each.checkpoint for each in (*iterations[-1:], *filter(None, [best(iterations)]))}
        return named

    def _name(self, job: int, artefacts: Mapping[str, str]) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO artefact VALUES (?, ?, ?)",
            [(job, path, digest) for path, digest in artefacts.items()],
        )

    def _change(self) -> _Transaction:
        return _Transaction(self._db)


class _Transaction:
    """Everything within it, or nothing."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> sqlite3.Connection:
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise OSError(f"The training's database does not take it: {error}.") from error
        return self._db

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._db.execute("COMMIT" if kind is None else "ROLLBACK")
        except sqlite3.Error as failure:
            raise OSError(f"The training's database does not take it: {failure}.") from failure
        if isinstance(error, sqlite3.Error):
            raise OSError(f"The training's database does not take it: {error}.") from error


def best(iterations: Iterable[Iteration]) -> Iteration | None:
    """The one whose evaluation went best; of equals the latest, as in the original. Before any evaluation, none."""
    tried = [iteration for iteration in iterations if iteration.metric is not None]
    return max(tried, key=lambda each: (each.metric, each.number), default=None)
