"""What several folders' tests stand on: an installed model, and a loop whose clock jumps."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, settings

from sim_stub.clock import JumpingLoop
from vehicle.models import ModelStore

SAMPLE = Path(__file__).parent.parent / "vehicle" / "sample.tar.gz"

# How many examples a property gets is said here alone: a test that says it itself has no more of them at night.
settings.register_profile("day", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("nightly", settings.get_profile("day"), max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "day"))

SECRETS = (
    "three odd walruses",
    "correct horse battery",
    "wrong horse",
    "seven blue teapots",
    "seven blue windmills",
    "old tram, green hat",
    "right-password",
    "canary-password",
    "drei: Wälder ☃ im Öl",
)
"""What tests give as passwords and keys: no log may hold them."""


class Eavesdropper(logging.Handler):
    """Remembers who has logged a secret, and not the secret."""

    def __init__(self, secrets: tuple[str, ...] = SECRETS) -> None:
        super().__init__()
        self._secrets = secrets
        self.caught: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            said = self.format(record)  # with the causes of what was raised
        except (TypeError, ValueError):
            said = f"{record.msg} {record.args!r}"
        if any(secret in said for secret in self._secrets):
            self.caught.append(f"{record.name}, {record.filename}:{record.lineno}")


@pytest.fixture(scope="session", autouse=True)
def eavesdropper() -> Iterator[Eavesdropper]:
    """Listens to everything that this process logs while it tests; a secret in it fails the last test."""
    ear = Eavesdropper()
    logging.getLogger().addHandler(ear)
    logging.getLogger().setLevel(logging.INFO)  # as on a car
    yield ear
    logging.getLogger().removeHandler(ear)
    assert ear.caught == [], "a password or key was logged"


def tells_a_secret(sections: Iterable[tuple[str, str]]) -> bool:
    """Whether what a test and the programs it started have logged, by pytest's names of it, holds one."""
    logged = "".join(said for name, said in sections if "stdout" not in name)
    return any(secret in logged for secret in SECRETS)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test whose programs log a secret fails, whatever else it finds; what it was is not repeated."""
    report = yield
    if report.passed and tells_a_secret(report.sections):
        report.outcome, report.longrepr, report.sections = "failed", "a password or key was logged", []
    return report


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--car", type=Path, metavar="SETTINGS", help="test the real car of this settings file, too")
    parser.addoption("--machine", action="store_true", help="take ten minutes more for a car in a virtual machine")


Jump: TypeAlias = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def jump() -> Jump:
    """Runs a coroutine to its end on a loop whose clock jumps."""

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            return runner.run(work)

    return run


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder in which the sample model is installed and active. Copy it before you change it."""
    folder = tmp_path_factory.mktemp("installed")

    async def install() -> None:
        store = ModelStore(folder)
        store.activate((await store.add(SAMPLE)).name)

    asyncio.run(install())
    return folder


@pytest.fixture
def state(installed: Path, tmp_path: Path) -> Path:
    """A state folder of the test's own, with the sample model."""
    return shutil.copytree(installed, tmp_path / "state", symlinks=True)
