"""A stock model that others trained drives the simulated car, and the simulated camera sees what theirs saw."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from sim_stub import track
from sim_stub.dynamics import FRONT_POINT, YAW, X, Y
from sim_stub.view import Eye, Lens, Scene
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


@pytest.mark.parametrize(
    ("picture", "along", "aside", "turned", "likeness"),
    [
        ("dr-demo-1", 8.175, -0.041, -0.309, 0.88),
        ("dr-demo-2", 7.081, -0.229, 0.216, 0.86),
        ("dr-demo-3", 15.479, 0.165, -0.083, 0.94),
        ("front_facing_camera_state_FRONT_FACING_CAMERA", 15.510, 0.032, -0.217, 0.84),
    ],
)
def test_the_camera_sees_what_the_original_simulator_showed(
    picture: str, along: float, aside: float, turned: float, likeness: float
) -> None:
    """Correlation of the ground's grey, at the best pose that a search found: the pictures came without theirs."""
    theirs = np.load(DATA / "models" / "golden-inputs.npz")[picture].astype(np.float32)
    road = track.load("reinvent_base")
    point, heading = road.place(np.array([along]))
    yaw = heading[0] + turned
    state = np.zeros((1, 5))
    normal = np.array([-np.sin(heading[0]), np.cos(heading[0])])
    state[0, [X, Y]] = point[0] + aside * normal - FRONT_POINT * np.array([np.cos(yaw), np.sin(yaw)])
    state[0, YAW] = yaw
    ours = cv2.cvtColor(Eye(Scene(road), Lens()).look(state)[0], cv2.COLOR_BGR2GRAY)
    blurred = [cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1)[40:] for image in (theirs, ours)]
    assert np.corrcoef(blurred[0].ravel(), blurred[1].ravel())[0, 1] > likeness
