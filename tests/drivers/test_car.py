"""The car that `--car SETTINGS` names keeps the contract of every rig; put it on a stand before."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.rig import Rig
from tests.drivers.rig_contract import RigContract
from vehicle.__main__ import open_rig
from vehicle.settings import load


class TestCar(RigContract):
    @pytest.fixture
    def rig(self, request: pytest.FixtureRequest) -> Rig:
        path: Path | None = request.config.getoption("--car")
        if path is None:
            pytest.skip("no car: name its settings with --car")
        return open_rig(load(path))
