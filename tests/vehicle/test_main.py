"""hotlap-car's commands that need no car."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vehicle.__main__ import main
from webui.auth import Password
from webui.certificate import FILE

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    path = tmp_path / "hotlap.toml"
    path.write_text(f'[car]\nrig = "nobody:knows"\nstate = "{tmp_path / "state"}"\n')
    return path


def test_a_new_password_is_printed_and_counts_at_once(
    settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running, _ = Password.first(tmp_path / "state" / "password.json", "three odd walruses")
    assert main(["reset-password", "--settings", str(settings)]) == 0
    new = capsys.readouterr().out.split()[-1]
    assert asyncio.run(running.verify(new))
    assert running.must_change
    assert not asyncio.run(running.verify("three odd walruses"))


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


def test_a_car_of_which_nothing_is_wired_says_so_and_ends_when_told_to(tmp_path: Path) -> None:
    (tmp_path / "hotlap.toml").write_text(
        f'[car]\nrig = "drivers.deepracer:open_rig"\nstate = "{tmp_path / "state"}"\n[console]\nport = 0\n'
    )
    command = [sys.executable, "-m", "vehicle", "run", "--settings", str(tmp_path / "hotlap.toml")]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said: list[str] = []
        while not any("servo and motor do not take their pulses" in line for line in said):
            said.append(process.stderr.readline())
            assert said[-1], said
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=20)
        assert process.returncode == 0
    assert "Traceback" not in "".join(said) + rest
    assert any("camera" in line for line in said)
