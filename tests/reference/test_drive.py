"""A stock model that others trained drives the simulated car."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vehicle.models import ModelStore

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the reference data is not there: {DATA}")


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stock")

    async def install() -> None:
        store = ModelStore(folder)
        store.activate((await store.add(DATA / "models" / "aws-sample-15.tar.gz")).name)

    asyncio.run(install())
    return folder


@pytest.mark.timeout(180)
def test_the_stock_model_makes_three_clean_laps_from_nine_of_ten_starts(stock: Path, tmp_path: Path) -> None:
    def drive(tenth: int) -> dict[str, object]:
        state = shutil.copytree(stock, tmp_path / str(tenth), symlinks=True)
        command = [sys.executable, "-m", "sim_stub", "--headless", "--speedup", "--laps", "3", "--json"]
        command += ["--state", str(state), "--start", str(tenth / 10)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return {"start": tenth / 10, "clean": done.returncode == 0, "figures": done.stdout, "said": done.stderr}

    with ThreadPoolExecutor(max_workers=2) as cores:
        drives = list(cores.map(drive, range(10)))
    for clean in (drive for drive in drives if drive["clean"]):
        figures = json.loads(str(clean["figures"]))
        assert (len(figures["laps"]), figures["off_track"]) == (3, 0)
    assert sum(bool(drive["clean"]) for drive in drives) >= 9, [drive for drive in drives if not drive["clean"]]
