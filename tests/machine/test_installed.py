"""What scripts/install-car leaves, on a real system that is switched on."""

from __future__ import annotations

import json
from typing import Final

import pytest

from tests.machine.machine import REST, Machine

DOCTOR: Final = "/opt/hotlap/venv/bin/hotlap-car doctor --json"


@pytest.mark.timeout(1200)  # the system is made first
def test_it_is_a_car_once_it_is_switched_on(machine: Machine) -> None:
    findings = json.loads(machine.run(f"{DOCTOR} || true"))
    bad = [finding for finding in findings if finding["state"] == "bad"]
    assert [finding for finding in bad if "did not answer" not in finding["sentence"]] == []  # it is a slow machine
    governor = machine.run("pgrep -f [v]ehicle.governor").strip()
    assert "SCHED_FIFO" in machine.run(f"chrt -p {governor}")
    assert int(machine.run(f"grep VmLck /proc/{governor}/status").split()[1]) > 1000
    assert machine.pulses() == pytest.approx(REST, abs=1)
