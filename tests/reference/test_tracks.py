"""Community routes load, and our own track of the same place is the same road."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sim_stub import track
from sim_stub.scene import Scene
from sim_stub.view import Eye, Lens

ROUTES = Path(__file__).parents[3] / "shared" / "data" / "tracks"
pytestmark = pytest.mark.skipif(not ROUTES.is_dir(), reason=f"the reference data is not there: {ROUTES}")


@pytest.mark.parametrize(
    ("name", "length", "closed"),
    [
        ("reinvent_base", 17.71, True),
        ("2022_summit_speedway", 25.17, True),
        ("Spain_track", 60.0, True),
        ("Straight_track", 5.71, False),
    ],
)
def test_a_community_route_is_a_track_that_can_be_seen(name: str, length: float, closed: bool) -> None:
    route = track.load(str(ROUTES / f"{name}.npy"))
    assert route.length == pytest.approx(length, abs=0.01)
    assert route.closed is closed
    assert route.on_road(route.centre[1:-1]).all()
    assert np.ptp(Eye(Scene(route), Lens()).look(np.array([[*route.centre[1], 0.0, 0.0, 0.0]]))) > 100


@pytest.mark.parametrize(("name", "millimetres"), [("reinvent_base", 13), ("2022_summit_speedway", 17)])
def test_our_track_is_their_road(name: str, millimetres: float) -> None:
    ours, theirs = track.load(name), track.load(str(ROUTES / f"{name}.npy"))
    assert ours.distance_from_centre(theirs.centre).max() < millimetres / 1000
    assert np.hypot(*(ours.centre[0] - theirs.centre[0])) < 0.001
    assert np.ptp(np.hypot(*(theirs.inner - theirs.outer).T)) < 0.01
    ahead = ours.distance_along(theirs.centre[5:6]) - ours.distance_along(theirs.centre[1:2])
    assert 0 < ahead[0] < 2
