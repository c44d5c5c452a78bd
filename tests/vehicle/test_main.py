"""hotlap-car's commands that need no car."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from vehicle.__main__ import ASSET_TAG, main
from webui.auth import NO_PASSWORD, Attempts, Password, unlock
from webui.certificate import FILE

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    path = tmp_path / "hotlap.toml"
    path.write_text(f'[car]\nrig = "nobody:knows"\nstate = "{tmp_path / "state"}"\n')
    return path


@pytest.fixture
def untagged(tmp_path: Path) -> None:
    """Skips where the tag of the machine itself would be the first password."""
    tag = ASSET_TAG.read_text("utf-8", "replace") if ASSET_TAG.exists() else None
    if not Password.first(tmp_path / "probe.json", tag=tag, random=False)[0].missing:
        pytest.skip("this machine has a tag of its own")


def test_a_new_password_is_printed_and_counts_at_once(
    settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running, _ = Password.first(tmp_path / "state" / "password.json", "three odd walruses")
    assert main(["reset-password", "--settings", str(settings)]) == 0
    new = capsys.readouterr().out.split()[-1]
    assert asyncio.run(running.verify(new))
    assert running.must_change
    assert not asyncio.run(running.verify("three odd walruses"))


def test_a_new_password_forgives_the_wrong_ones(
    settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    running, _ = Password.first(state / "password.json", "three odd walruses")
    attempts = Attempts(state / "attempts.json", lambda: 0.0)
    for _ in range(5):
        attempts.failed("192.0.2.7")
    assert attempts.check("192.0.2.7") > 0
    assert main(["reset-password", "--settings", str(settings)]) == 0
    new = capsys.readouterr().out.split()[-1]
    assert asyncio.run(unlock(running, attempts, "192.0.2.7", new))


def test_a_first_password_is_printed_once(
    settings: Path, tmp_path: Path, untagged: None, capsys: pytest.CaptureFixture[str]
) -> None:
    running, _ = Password.first(tmp_path / "state" / "password.json", random=False)
    assert main(["first-password", "--settings", str(settings)]) == 0
    new = capsys.readouterr().out.split("password is ")[1].split(";")[0]
    assert asyncio.run(running.verify(new))
    assert main(["first-password", "--settings", str(settings)]) == 0
    assert capsys.readouterr().out == "hotlap-car: the console's password stays as it is\n"
    assert asyncio.run(running.verify(new))


def test_certificate_and_key_are_made_anew(settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    papers = []
    for _ in range(2):
        assert main(["renew-certificate", "--settings", str(settings)]) == 0
        papers.append((tmp_path / "state" / FILE).read_bytes())
    said = capsys.readouterr().out.splitlines()
    assert papers[0] != papers[1]
    assert said[0].count(":") > 31
    assert said[0] != said[1]


@pytest.mark.parametrize("command", ["run", "release"])
def test_a_car_that_nobody_knows_is_told_in_one_sentence(
    settings: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--settings", str(settings)]) == 2
    assert capsys.readouterr().err.startswith("hotlap-car: The car 'nobody:knows' is not known: ")


def test_a_car_of_which_nothing_is_wired_says_so_and_ends_when_told_to(tmp_path: Path, untagged: None) -> None:
    (tmp_path / "hotlap.toml").write_text(
        f'[car]\nrig = "drivers.deepracer:open_rig"\nstate = "{tmp_path / "state"}"\n[console]\nport = 0\n'
    )
    command = [sys.executable, "-m", "vehicle", "run", "--settings", str(tmp_path / "hotlap.toml")]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said: list[str] = []
        while not any("There is no PWM chip behind" in line for line in said):
            said.append(process.stderr.readline())
            assert said[-1], said
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=20)
        assert process.returncode == 0
    assert "Traceback" not in "".join(said) + rest
    assert any("camera" in line for line in said)
    assert any(NO_PASSWORD in line for line in said), "what it says may go into a journal"
    assert not (tmp_path / "state" / "password.json").exists()


def test_who_starts_the_car_at_a_terminal_is_told_the_first_password_there(tmp_path: Path, untagged: None) -> None:
    (tmp_path / "hotlap.toml").write_text(
        f'[car]\nrig = "drivers.deepracer:open_rig"\nstate = "{tmp_path / "state"}"\n[console]\nport = 0\n'
    )
    command = [sys.executable, "-m", "vehicle", "run", "--settings", str(tmp_path / "hotlap.toml")]
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, cwd=ROOT, stderr=theirs) as process, os.fdopen(ours, "rb", 0) as terminal:
        os.close(theirs)
        said = b""
        while b"asks for one of your own" not in said:
            said += terminal.read(4096)
        process.send_signal(signal.SIGTERM)
        # Its end is an error, or what it says at last would fill the terminal.
        with suppress(OSError):
            while terminal.read(4096):
                pass
        assert process.wait(20) == 0
    new = said.decode().split("password is ")[1].split(";")[0]
    running, told = Password.first(tmp_path / "state" / "password.json")
    assert told is None
    assert asyncio.run(running.verify(new))
