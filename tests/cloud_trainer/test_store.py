import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from cloud_trainer.store import ARTEFACTS, DATABASE, Artefacts, Iteration, Jobs, Status, best


def iteration(number: int, metric: float | None = None, checkpoint: str = "none") -> Iteration:
    return Iteration(number, 100 * number, 1.5 * number, metric, 0, {"reward": 1.0}, checkpoint)


def test_artefacts_are_found_by_their_hash_and_damage_is_noticed(tmp_path: Path) -> None:
    kept = Artefacts(tmp_path / ARTEFACTS)
    one, two = kept.put(b"one"), kept.put(b"two")
    assert kept.put(b"one") == one
    assert (kept.get(one), kept.get(two)) == (b"one", b"two")
    kept.sweep({two})
    with pytest.raises(FileNotFoundError):
        kept.get(one)
    (tmp_path / ARTEFACTS / two).write_bytes(b"twa")
    with pytest.raises(OSError, match="damaged"):
        kept.get(two)


def test_a_job_and_all_that_belongs_to_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    with Jobs(tmp_path / DATABASE) as jobs:
        assert jobs.latest() is None
        number = jobs.create({"name": "one"}, {"start.pb": "abc"})
        jobs.add(number, iteration(0, 10.0), [{"episode": 0}, {"episode": 1}], {"trace": "d0"})
        jobs.add(number, iteration(1, -math.inf), [{"episode": 2}], {"trace": "d1"})
    with Jobs(tmp_path / DATABASE) as jobs:
        assert jobs.latest() == number
        assert jobs.document(number) == {"name": "one"}
        assert jobs.status(number) == (Status.RUNNING, "")
        assert jobs.iterations(number) == [iteration(0, 10.0), iteration(1, -math.inf)]
        assert jobs.records(number) == [{"episode": 0}, {"episode": 1}, {"episode": 2}]
        assert jobs.artefacts(number) == {"start.pb": "abc", "trace": "d1"}
        jobs.settle(number, Status.FAILED, "why", {"name": "two"})
        assert (jobs.status(number), jobs.document(number)) == ((Status.FAILED, "why"), {"name": "two"})


def test_an_iteration_comes_whole_or_not_at_all(tmp_path: Path) -> None:
    with Jobs(tmp_path / DATABASE) as jobs:
        number = jobs.create({}, {})
        jobs.add(number, iteration(0), [{"episode": 0}], {})
        with pytest.raises(OSError, match="database does not take it"):
            jobs.add(number, iteration(0), [{"episode": 1}], {"trace": "d"})
        assert jobs.records(number) == [{"episode": 0}]
        assert jobs.artefacts(number) == {}
        jobs.add(number, iteration(1), [], {})


def test_what_is_needed_is_the_named_the_last_and_the_best(tmp_path: Path) -> None:
    with Jobs(tmp_path / DATABASE) as jobs:
        number = jobs.create({}, {"a": "named"})
        for place, metric in enumerate((5.0, 9.0, None, 9.0, 3.0)):
            jobs.add(number, iteration(place, metric, f"c{place}"), [], {})
        assert jobs.digests() == {"named", "c3", "c4"}


def test_of_equals_the_latest_is_the_best() -> None:
    tried = [iteration(0, 9.0), iteration(1, 9.0), iteration(2, None), iteration(3, 1.0)]
    assert best(tried) is tried[1]
    assert best([iteration(0)]) is None


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"no database")
    with pytest.raises(OSError, match="cannot be opened"):
        Jobs(tmp_path / DATABASE)


def test_who_is_killed_while_writing_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from cloud_trainer.store import Iteration, Jobs
with Jobs(Path(sys.argv[1])) as jobs:
    number = jobs.create({}, {})
    for place in range(100_000):
        jobs.add(number, Iteration(place, place, 0.0, None, 0, {}, "c"), [{"n": place}] * 20, {"trace": str(place)})
        print(place, flush=True)
"""
    for _ in range(5):
        path = tmp_path / DATABASE
        path.unlink(missing_ok=True)
        process = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
        assert process.stdout
        for _ in range(20):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        told = len(process.stdout.read().splitlines()) + 20
        process.stdout.close()
        with Jobs(path) as jobs:
            whole = len(jobs.iterations(1))
            assert whole in (told, told + 1)
            assert len(jobs.records(1)) == 20 * whole
            assert jobs.artefacts(1) == {"trace": str(whole - 1)}
        with sqlite3.connect(path) as db:
            assert json.loads(db.execute("SELECT record FROM episode").fetchone()[0]) == {"n": 0}
